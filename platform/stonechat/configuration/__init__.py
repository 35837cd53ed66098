"""A tenant's whole configuration as one document: exported, compared, applied."""
