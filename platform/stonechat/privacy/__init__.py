"""A visitor's own data, across the rooms: given out, and erased."""
