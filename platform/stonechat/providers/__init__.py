"""Where language models are reached: the tenants' own providers, and clients that never mix one's key with another's."""
