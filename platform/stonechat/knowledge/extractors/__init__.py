"""From a document's bytes to its text: one `Extractor` per media type. Used in the child process only.

Each extractor imports what it needs when it is chosen, so a text file does not pay for PDF.
"""
