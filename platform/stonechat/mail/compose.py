"""Mails from templates: `<name>.txt` begins with the subject, `<name>.html` fills the same frame for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from stonechat.mail.message import Mail

_FOLDER = Path(__file__).parent / "templates"
_templates = Environment(
    loader=FileSystemLoader(_FOLDER),
    autoescape=select_autoescape(["html"], default=False),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def compose(template: str, *, to: str, **values: Any) -> Mail:
    """The mail `template` (without its ending) to one address. The text's first line is the subject."""
    subject, _, text = _templates.get_template(f"{template}.txt").render(**values).partition("\n")
    subject = " ".join(subject.split())[:200]
    html = _templates.get_template(f"{template}.html").render(subject=subject, **values)
    return Mail(to=to, subject=subject, text=text.strip() + "\n", html=html)
