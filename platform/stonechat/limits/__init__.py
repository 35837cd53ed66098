"""Rate limits: per address, visitor, agent and tenant."""
