"""The console. So far it has one room: the page where a new owner sets a password."""
