"""Conversations: threads and their items, answers as runs that outlive connections, the ChatKit protocol."""
