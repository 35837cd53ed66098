"""One file a page, or a family of pages. Every module here with a `router` is part of the console (see `app.py`)."""
