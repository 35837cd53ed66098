"""reStructuredText, by docutils, with everything that reaches outside the file switched off."""

from __future__ import annotations

from docutils import nodes
from docutils.core import publish_doctree

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS, TextBuilder, decoded

_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 6,
    "warning_stream": False,
    "_disable_config": True,
    "doctitle_xform": False,
    "line_length_limit": 100_000,
}
_LEFT_OUT = (nodes.comment, nodes.substitution_definition, nodes.target, nodes.system_message, nodes.image)


def extract_rst(data: bytes) -> Extracted:
    """A reStructuredText document. Directives and roles of Sphinx that are unknown here lose their marks only."""
    text = decoded(data, limit=MAX_CHARACTERS).lstrip("\ufeff")
    out = TextBuilder()
    _walk(out, publish_doctree(text, settings_overrides=_SETTINGS), level=0, listed=False)
    return out.build()


def _walk(out: TextBuilder, parent: nodes.Node, *, level: int, listed: bool) -> None:
    for node in parent.children:
        if isinstance(node, _LEFT_OUT):
            continue
        if isinstance(node, nodes.section):
            _walk(out, node, level=level + 1, listed=False)
        elif isinstance(node, nodes.title):
            ids = parent.get("ids", []) if isinstance(parent, nodes.section) else []
            out.add("heading", node.astext(), level=max(1, min(level, 6)), anchor=ids[0] if ids else None)
        elif isinstance(node, nodes.literal_block | nodes.doctest_block):
            out.add("code", node.astext(), verbatim=True)
        elif isinstance(node, nodes.paragraph | nodes.term | nodes.line):
            out.add("list" if listed else "paragraph", node.astext().replace("\n", " "))
        elif isinstance(node, nodes.row):
            cells = [" ".join(entry.astext().split()) for entry in node.children]
            out.add("table", " | ".join(cells), level=1 if isinstance(parent, nodes.thead) else 0)
        elif isinstance(node, nodes.Element):
            inside = listed or isinstance(node, nodes.list_item | nodes.field | nodes.definition)
            _walk(out, node, level=level, listed=inside)
