"""The console: server-rendered pages over the same service verbs as the API."""
