"""`/console/usage/end`: what the plan includes and how far it is, what happens when nothing is left, and who left an address."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response
from pydantic import ValidationError

from stonechat.assistant.contacts import list_contacts
from stonechat.assistant.over_limit import EMAIL_REQUEST, EMAIL_THANKS, choose_steps
from stonechat.errors import ModelUnknown, StonechatError
from stonechat.plans.entitlements import Entitlements, entitlements
from stonechat.plans.terms import Feature
from stonechat.providers.service import require_model
from stonechat.usage.allowance import AllowanceState, Steps, allowance_state, get_steps
from stonechat_admin.auth import Admin, Console, Viewer
from stonechat_admin.forms import Filled, refused
from stonechat_admin.views.usage import Meter

router = APIRouter()

PATH = "/console/usage/end"
SHOWN = 20
"""Addresses."""
PLACES = ("first", "second", "third", "fourth")
STEPS = (
    ("", "Nothing more"),
    ("approved_answers", "Approved answers only"),
    ("cheaper_model", "A cheaper model"),
    ("ask_email", "Ask for an e-mail address"),
    ("hand_over", "Hand over to a person"),
)
Choice = Annotated[str, Form(max_length=30)]
Words = Annotated[str, Form(max_length=600)]


@router.get(PATH)
async def show_end(console: Viewer) -> Response:
    session, actor = console.session, console.actor
    held = await entitlements(session, actor.tenant_id)
    bounded = held.terms.included_messages is not None or held.terms.included_tokens is not None
    state = await allowance_state(session, actor.tenant_id, rights=held) if bounded else None
    steps = await get_steps(session, actor) if state is None else state.steps
    return console.page(
        "usage/end.html",
        state=state,
        meters=[] if state is None else _meters(state),
        **await _values(console, Filled(_typed(steps)), chosen=steps, held=held),
    )


@router.get(f"{PATH}/contacts")
async def show_contacts(console: Viewer) -> Response:
    """Who left an address: a part of the page that comes after it."""
    contacts = (await list_contacts(console.session, console.actor, limit=SHOWN)).data
    if console.is_partial:
        return console.fragment("usage/_contacts.html", contacts=contacts)
    return console.page("usage/contacts.html", contacts=contacts)


@router.post(f"{PATH}/steps")
async def save_steps(
    console: Admin,
    first: Choice = "",
    second: Choice = "",
    third: Choice = "",
    fourth: Choice = "",
    cheaper_model: Words = "",
    email_request: Words = "",
    email_thanks: Words = "",
) -> Response:
    typed = {
        **dict(zip(PLACES, (first, second, third, fourth), strict=True)),
        "cheaper_model": cheaper_model,
        "email_request": email_request,
        "email_thanks": email_thanks,
    }
    chosen = [step for step in (first, second, third, fourth) if step]
    errors: dict[str, str] = {}
    if len(set(chosen)) < len(chosen):
        errors["first"] = "Choose each step once."
    if "cheaper_model" in chosen and not cheaper_model.strip():
        errors["cheaper_model"] = "Say which model is the cheaper one."
    try:
        steps = Steps.model_validate(
            {
                "steps": [*(chosen if not errors else ()), "message"],
                "cheaper_model": cheaper_model.strip() or None,
                "email_request": email_request.strip() or None,
                "email_thanks": email_thanks.strip() or None,
            }
        )
    except ValidationError as error:
        for fault in error.errors():
            errors.setdefault(_field(fault), _MESSAGES.get(_field(fault), "This is none of the steps."))
        steps = Steps()
    if not errors:
        try:
            async with console.session.begin_nested():
                settings = console.services.settings
                await choose_steps(console.session, console.actor, steps=steps, settings=settings)
        except StonechatError as error:
            if error.status >= 500:
                raise
            form = refused(error, typed, about="first")
            return console.fragment("usage/_steps.html", status=422, **await _values(console, form, chosen=Steps()))
    if errors:
        return console.fragment(
            "usage/_steps.html", status=422, **await _values(console, Filled(typed, errors), chosen=steps)
        )
    toast = "The steps are saved. They hold from the next question on."
    if not console.is_partial:
        return console.go(PATH, toast=toast)
    return console.fragment(
        "usage/_steps.html", toast=toast, **await _values(console, Filled(_typed(steps)), chosen=steps)
    )


_MESSAGES = {
    "cheaper_model": "Write it as in your agents: provider/model, or extractive.",
    "email_request": "Write at most 500 characters.",
    "email_thanks": "Write at most 500 characters.",
}


def _field(fault: Any) -> str:
    return str(fault["loc"][0]) if fault["loc"] and str(fault["loc"][0]) in _MESSAGES else "first"


def _typed(steps: Steps) -> dict[str, str]:
    chosen = [step for step in steps.steps if step != "message"]
    return {
        **{place: chosen[number] if number < len(chosen) else "" for number, place in enumerate(PLACES)},
        "cheaper_model": steps.cheaper_model or "",
        "email_request": steps.email_request or "",
        "email_thanks": steps.email_thanks or "",
    }


async def _values(console: Console, form: Filled, *, chosen: Steps, held: Entitlements | None = None) -> dict[str, Any]:
    names = dict(STEPS)
    held = held or await entitlements(console.session, console.tenant_id)
    return {
        "skipped": await _skipped(console, chosen, held=held),
        "form": form,
        "options": STEPS,
        "in_words": [names[step] for step in chosen.steps if step != "message"],
        "email_words": EMAIL_REQUEST,
        "thanks_words": EMAIL_THANKS,
    }


async def _skipped(console: Console, chosen: Steps, *, held: Entitlements) -> list[str]:
    """What was chosen and cannot be done any more, a sentence each."""
    found = []
    if "hand_over" in chosen.steps and not held.has(Feature.HAND_OVER):
        found.append(
            f"Handing over to a person is not part of your plan, {held.plan.name}: "
            "that step is skipped, and the next one answers."
        )
    if "cheaper_model" in chosen.steps and chosen.cheaper_model is not None:
        settings = console.services.settings
        try:
            await require_model(console.session, console.actor, model=chosen.cheaper_model, settings=settings)
        except ModelUnknown:
            found.append(
                f"There is no model provider for {chosen.cheaper_model}: "
                "until you add it, that step is skipped, and the next one answers."
            )
    return found


def _meters(state: AllowanceState) -> list[Meter]:
    rows = (
        ("Answers", state.used.messages, state.included.messages, state.reserved.messages),
        ("Tokens", state.used.tokens, state.included.tokens, state.reserved.tokens),
    )
    return [
        Meter(
            label,
            f"{used:,}",
            f"{most:,}",
            f"{reserved:,}" if reserved else "",
            min(100, 100 * used // most) if most else 100,
        )
        for label, used, most, reserved in rows
        if most is not None and used is not None
    ]
