"""What a tenant's assistants know: documents, their passages, and the search over them.

Postgres holds the truth about documents; the index is derived from it, and every hit is checked against it before use.
"""
