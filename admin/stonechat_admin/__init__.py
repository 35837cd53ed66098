"""The console, where a tenant's people shape their agents. It has no pages yet: use `/api/v1` and the command line."""
