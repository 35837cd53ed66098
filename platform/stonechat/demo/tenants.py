"""What the demo's two tenants are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stonechat

_PACKAGE = Path(stonechat.__file__).parent
SHOP_FOLDER = Path(__file__).parent / "shop"


def guide_folder() -> Path:
    """The user guide: inside the installed package, or beside the sources."""
    installed = _PACKAGE / "guide"
    return installed if installed.is_dir() else _PACKAGE.parent.parent / "docs" / "guide"


@dataclass(frozen=True)
class DemoDocument:
    path: Path
    title: str
    url: str
    """Path on the platform where a visitor can read it."""


@dataclass(frozen=True)
class DemoTenant:
    name: str
    """In its address, `/demo/<name>`."""
    company: str
    config: dict[str, Any]

    def documents(self) -> Iterator[DemoDocument]:
        if self.name == "docs":
            for path in sorted(guide_folder().glob("*.md")):
                yield DemoDocument(path, _heading(path), f"/demo/docs/{slug(path)}")
        else:
            for file, title in _SHOP_DOCUMENTS.items():
                path = SHOP_FOLDER / file
                yield DemoDocument(path, title, f"/demo/shop/{path.stem}")


def slug(path: Path) -> str:
    """`02-install.md` → `install`."""
    return path.stem.partition("-")[2]


def _heading(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


_SHOP_DOCUMENTS = {
    "shipping.md": "Shipping and delivery",
    "returns.md": "Returns and refunds",
    "warranty-and-repairs.md": "Ten-year promise and repairs",
    "gift-cards-and-payment.md": "Gift cards and payment",
    "about.html": "About Alder & Loom",
    "care-guide.pdf": "Care guide for wool",
}

DEMO_TENANTS = (
    DemoTenant(
        "shop",
        "Alder & Loom",
        {
            "name": "Loom",
            "instructions": (
                "You help the customers of Alder & Loom, a mill that weaves blankets. Be warm and brief. "
                "Answer from the shop's documents only."
            ),
            "model": "extractive",
            "greeting": "Hello from the mill. Ask me about delivery, returns, care or repairs.",
            "prompts": [
                {
                    "label": "How long may I take to return something?",
                    "prompt": "How long may I take to return something?",
                },
                {"label": "What does delivery to Ireland cost?", "prompt": "What does delivery to Ireland cost?"},
                {"label": "Can I tumble dry a blanket?", "prompt": "Can I tumble dry a blanket?"},
            ],
            "disclaimer": "Answers are quoted from our own policies.",
            "placeholder": "Ask about a blanket…",
            "theme": {"accent": "#2f4a3c", "scheme": "auto", "radius": "small", "density": "spacious"},
            "launcher": {"label": "Ask the mill", "position": "right"},
        },
    ),
    DemoTenant(
        "docs",
        "Stonechat documentation",
        {
            "name": "Stonechat Docs",
            "instructions": "You help people who install and run Stonechat. Be precise. Answer from the documentation only.",
            "model": "extractive",
            "greeting": "Ask the documentation.",
            "prompts": [
                {"label": "How do I start Stonechat?", "prompt": "How do I start Stonechat?"},
                {"label": "How do I put the chat on my page?", "prompt": "How do I put the snippet on a page?"},
                {"label": "Which files can I upload?", "prompt": "Which kinds of files can I upload?"},
            ],
            "disclaimer": "",
            "placeholder": "Ask the docs…",
            "theme": {"accent": "#d9601a", "scheme": "auto", "radius": "large", "density": "normal"},
            "launcher": {"label": "Ask the docs", "position": "right"},
        },
    ),
)
