"""Outbound webhooks: a tenant's own addresses are told of its events, as Standard Webhooks has it."""
