"""The whole platform as one file, taken while it runs, and put back into an empty place.

`archive` writes and reads the file; `manifest` says what must be in it, and whose keys it was made with; `tables` knows
the database's catalogue; `taking` makes a backup; `checking` reads one to its end without touching anything; `restoring`
puts it back. The search index is derived and not in it.
"""
