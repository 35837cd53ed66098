"""What a tenant may do, and why: plans, subscriptions, exceptions from them, and what follows."""
