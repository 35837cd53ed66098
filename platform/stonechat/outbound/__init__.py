"""The one way out: every request to an address that a tenant or a document named."""
