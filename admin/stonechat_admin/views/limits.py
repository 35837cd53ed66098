"""`/console/limits`: how much visitors may ask, in words."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response
from pydantic import ValidationError

from stonechat.limits.rules import LimitRules, get_limits, put_limits
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.forms import Filled

router = APIRouter()

_PLACES = {
    "visitor_messages": ("visitor", "messages_per_minute"),
    "visitor_concurrent": ("visitor", "concurrent"),
    "agent_messages": ("agent", "messages_per_minute"),
    "tenant_messages": ("tenant", "messages_per_minute"),
}
"""Each field of the form, and where its number stands in the rules."""
MOST = {name: 100 if name == "visitor_concurrent" else 100_000 for name in _PLACES}
DEFAULTS = LimitRules()

Field = Annotated[str, Form(max_length=20)]


@router.get("/console/limits")
async def show_limits(console: Viewer) -> Response:
    return console.page("limits/page.html", **_values(await get_limits(console.session, console.actor)))


@router.post("/console/limits")
async def save_limits(
    console: Editor,
    visitor_messages: Field = "",
    visitor_concurrent: Field = "",
    agent_messages: Field = "",
    tenant_messages: Field = "",
    seen: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    typed = {
        "visitor_messages": visitor_messages,
        "visitor_concurrent": visitor_concurrent,
        "agent_messages": agent_messages,
        "tenant_messages": tenant_messages,
    }
    stored = await get_limits(console.session, console.actor)
    try:
        rules = _read(typed)
    except ValidationError as error:
        return _again(console, stored, Filled(typed, _complaints(error)))
    if _stamp(stored) not in (seen, _stamp(rules)):
        message = (
            "Somebody changed the limits while you had this page open. Your numbers are still here: "
            "compare them with the current ones, then save again."
        )
        return _again(console, stored, Filled(typed, {}, message))
    await _put(console, rules)
    return _saved(console, rules, "The limits are saved. They hold within three seconds.")


@router.post("/console/limits/reset")
async def reset_limits(console: Editor) -> Response:
    await _put(console, DEFAULTS)
    return _saved(console, DEFAULTS, "The limits are back to what they were at first.")


async def _put(console: Console, rules: LimitRules) -> None:
    await put_limits(console.session, console.actor, rules=rules)
    console.services.limiter.rules.forget_after_commit(console.session, console.tenant_id)


def _saved(console: Console, rules: LimitRules, toast: str) -> Response:
    if not console.is_partial:
        return console.go("/console/limits", toast=toast)
    return console.fragment("limits/_form.html", toast=toast, **_values(rules))


def _again(console: Console, stored: LimitRules, form: Filled) -> Response:
    values = _values(stored) | {"form": form}
    if console.is_partial:
        return console.fragment("limits/_form.html", status=422, **values)
    return console.page("limits/page.html", status=422, **values)


def _read(typed: dict[str, str]) -> LimitRules:
    rules: dict[str, dict[str, str]] = {}
    for name, (who, what) in _PLACES.items():
        rules.setdefault(who, {})[what] = typed[name].strip()
    return LimitRules.model_validate(rules)


def _complaints(error: ValidationError) -> dict[str, str]:
    at_fault = {fault["loc"][:2] for fault in error.errors()}
    return {
        name: f"Write a whole number from 1 to {MOST[name]:,}." for name, place in _PLACES.items() if place in at_fault
    }


def _numbers(rules: LimitRules) -> dict[str, int]:
    return {name: getattr(getattr(rules, who), what) for name, (who, what) in _PLACES.items()}


def _stamp(rules: LimitRules) -> str:
    """What the form saw, so that it notices when somebody else was faster."""
    return "-".join(str(number) for number in _numbers(rules).values())


def _values(rules: LimitRules) -> dict[str, Any]:
    return {
        "form": Filled(_numbers(rules)),
        "numbers": _numbers(rules),
        "defaults": _numbers(DEFAULTS),
        "seen": _stamp(rules),
        "most": MOST,
    }
