"""Rules for what goes in and what comes out: checks before a model is asked, and a filter on what it says."""
