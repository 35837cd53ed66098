"""What agents can do: one file a kind of tool, `opening.py` for all of an agent's at once."""
