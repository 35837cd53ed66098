"""An agent's guardrails as a form, and a form as a change of the draft."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_rules import Guardrails
from stonechat.assistant.guardrails.findings import Finding, blocks
from stonechat.assistant.guardrails.rules import Question, check_answer, check_question, rules_of
from stonechat.errors import InvalidInput
from stonechat_admin.forms import Filled

INJECTION = [
    ("off", "Do nothing", ""),
    ("flag", "Mark the conversation for your team", "It is answered all the same."),
    ("block", "Do not answer", "Some harmless questions will be refused too."),
]
LINKS = [
    ("any", "Any address", "A tricked AI model can put what was said into a link."),
    ("sources", "Your site and where your documents come from", "And the addresses below."),
    ("listed", "Only the addresses below", ""),
]
IMAGES = [
    ("none", "None", "A picture loads by itself, and its address can carry away what was said."),
    ("listed", "From the addresses below", ""),
]
REDACT = [
    ("secrets", "Keys and passwords of machines", "API keys, tokens, private keys."),
    ("cards", "Card numbers", "Only where the check digit is right."),
    ("ibans", "Bank accounts", "IBANs whose check digits are right."),
    ("national_ids", "National ids", "Of fourteen countries, by their check digits; US numbers by their form."),
    ("emails", "E-mail addresses", "Your own in quoted documents too."),
    ("phones", "Phone numbers", "Your own in quoted documents too. A guess by their form."),
]
RULE_LABELS = {
    "message": "Said instead of an answer",
    "topics": "Blocked topics",
    "languages": "Languages it answers",
    "max_characters": "Longest message",
    "injection": "Messages with new instructions",
    "moderation": "Asks moderation",
    "moderation_model": "Moderation model",
    "links": "Links in answers",
    "images": "Pictures in answers",
    "link_hosts": "Allowed addresses",
    "redact": "Blacked out in answers",
    "strict": "Shows whole answers only",
}
RULE_WORDS = {
    name: {value: words for value, words, _ in choices}
    for name, choices in (("injection", INJECTION), ("links", LINKS), ("images", IMAGES), ("redact", REDACT))
}
_MESSAGES = {
    "message": "Write what visitors are told, in up to 500 characters.",
    "max_characters": "Write a whole number from 50 to 32,000.",
    "languages": "Write two-letter codes with commas between them, such as en, de.",
    "topics": "Write one topic a line, as Name: phrase, phrase. Up to 20 topics of 50 phrases of 2 to 100 characters.",
    "link_hosts": "Write one address a line, such as shop.example or *.shop.example, without https://.",
    "moderation_model": "Write the model’s name without spaces, or leave it empty.",
}
_FIELD_OF = {"blocked_topics": "topics", "redact": "redact"}
MAX_TRIED = 8_000


def values_of(rules: Guardrails) -> dict[str, Any]:
    """Every field of the form, as it shows saved rules."""
    given, kept = rules.input, rules.output
    return {
        "message": rules.message,
        "max_characters": given.max_characters,
        "languages": ", ".join(given.languages),
        "topics": "\n".join(f"{topic.name}: {', '.join(topic.phrases)}" for topic in given.blocked_topics),
        "moderation": given.moderation,
        "moderation_model": given.moderation_model,
        "injection": given.injection,
        "links": kept.links,
        "link_hosts": "\n".join(kept.link_hosts),
        "images": kept.images,
        "redact": list(kept.redact),
        "strict": kept.strict,
    }


def typed_values(form: FormData) -> dict[str, Any]:
    """What somebody typed; boxes that are not ticked send nothing."""
    values: dict[str, Any] = {
        name: str(form.get(name, "")).replace("\r\n", "\n")
        for name in ("message", "max_characters", "languages", "topics", "moderation_model", "injection", "links")
    }
    values |= {name: str(form.get(name, "")).replace("\r\n", "\n") for name in ("link_hosts", "images")}
    values |= {name: name in form for name in ("moderation", "strict")}
    return values | {"redact": [str(each) for each in form.getlist("redact")]}


def patch_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """A change of the draft to what the form says."""
    length = str(values["max_characters"]).strip()
    return {
        "guardrails": {
            "message": values["message"],
            "input": {
                "max_characters": length or None,
                "languages": [code.lower() for code in re.split(r"[\s,;]+", values["languages"]) if code],
                "blocked_topics": [_topic(line) for line in values["topics"].splitlines() if line.strip()],
                "moderation": values["moderation"],
                "moderation_model": values["moderation_model"].strip(),
                "injection": values["injection"],
            },
            "output": {
                "links": values["links"],
                "link_hosts": [line.strip().lower() for line in values["link_hosts"].splitlines() if line.strip()],
                "images": values["images"],
                "redact": values["redact"],
                "strict": values["strict"],
            },
        }
    }


def _topic(line: str) -> dict[str, Any]:
    """`Name: phrase, phrase`; a line without a colon is its own name."""
    name, colon, phrases = line.partition(":")
    listed = [phrase.strip() for phrase in (phrases if colon else line).split(",") if phrase.strip()]
    return {"name": name.strip()[:60], "phrases": listed}


def complaints(error: InvalidInput, values: Mapping[str, Any]) -> Filled:
    """The form after a refusal: each field at fault says what to write instead."""
    errors: dict[str, str] = {}
    for fault in error.members.get("errors", ()):
        parts = str(fault.get("field", "")).split(".")
        name = parts[1] if parts[1:] and parts[1] == "message" else parts[2] if len(parts) > 2 else ""
        name = _FIELD_OF.get(name, name)
        if name in values:
            errors[name] = _MESSAGES.get(name, "Choose one of these.")
    return Filled(values, errors, "" if errors else str(error))


@dataclass(frozen=True)
class Tried:
    """What the rules would do with a message and with an answer."""

    stopped: bool
    asked: list[Finding]
    shown: str
    answered: list[Finding]
    answer_stopped: bool


def try_rules(config: AgentConfig, *, message: str, answer: str) -> Tried:
    """What would trip. Moderation is not asked: it costs, and it knows nothing of a trial."""
    rules = rules_of(config)
    message, answer = message[: 4 * MAX_TRIED], answer[:MAX_TRIED]
    asked = check_question(rules, Question(message, (message,))) if message.strip() else []
    kept = rules.filter()
    shown = "".join(str(piece) for piece in [*kept.feed(answer), *kept.finish()])
    topic = check_answer(rules, answer) if config.guardrails.output.strict else None
    return Tried(blocks(asked), asked, shown, [*kept.findings, *([topic] if topic else [])], topic is not None)
