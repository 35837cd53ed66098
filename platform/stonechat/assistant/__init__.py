"""Agents: their configuration and versions, and the answer to one message."""
