"""Secrets at rest: platform keys, a data key per tenant, and what is sealed with them."""
