"""What the fields of a plan are called, and their values in words, for people."""

from __future__ import annotations

from typing import assert_never

from stonechat.plans.terms import MAX_WEBHOOK_ENDPOINTS, Feature, NumberField

FIELD_NAMES: dict[NumberField, str] = {
    "included_messages": "Answers a month",
    "included_tokens": "Tokens a month",
    "overage_micros_per_1k_tokens": "Price of more tokens",
    "agents": "Agents",
    "seats": "Seats",
    "sources": "Sources",
    "webhook_endpoints": "Webhook endpoints",
    "retention_days": "Conversations are kept",
}
FEATURE_NAMES: dict[Feature, str] = {
    Feature.WEB_SOURCES: "Web sites as sources",
    Feature.SCHEDULED_SYNC: "Sources that stay up to date by themselves",
    Feature.HTTP_TOOLS: "Tools that call your services",
    Feature.MCP_SERVERS: "Tools of MCP servers",
    Feature.OWN_MODELS: "Your own model providers",
    Feature.ATTACHMENTS: "Files from visitors",
    Feature.DICTATION: "Dictation",
    Feature.HAND_OVER: "Handing over to a person",
    Feature.REMOVE_BRANDING: "Without our name in the widget",
}
_SIGNS = {"usd": "$", "eur": "€", "gbp": "£"}


def money(cents: int, currency: str) -> str:
    """`$29`, `-€7.50`, `1,200.00 CHF`."""
    sign = _SIGNS.get(currency)
    if cents < 0:
        return f"-{money(-cents, currency)}"
    amount = f"{cents // 100:,}" if cents % 100 == 0 and sign else f"{cents / 100:,.2f}"
    return f"{sign}{amount}" if sign else f"{amount} {currency.upper()}"


def money_in_column(cents: int, currency: str) -> str:
    """The same with hundredths always, so that amounts below each other line up: `$29.00`."""
    sign = _SIGNS.get(currency)
    if cents < 0:
        return f"-{money_in_column(-cents, currency)}"
    return f"{sign}{cents / 100:,.2f}" if sign else money(cents, currency)


def cents_of(micros: int) -> int:
    """Millionths as hundredths, rounded as on invoices."""
    return (micros + 5_000) // 10_000


def amount(number: int) -> str:
    """`3`, `10,000`, `60 million`: round millions are read more easily in words."""
    return f"{number / 10**6:,g} million" if number >= 10**6 and number % 10**5 == 0 else f"{number:,}"


def value_in_words(field: str, value: int | bool | None, currency: str) -> str:
    """A value of a field of a plan: `3`, `no bound`, `30 days`, `$2.00 for a million tokens`, `included`."""
    if field in set(Feature):
        return "included" if value else "not included"
    name: NumberField = field  # type: ignore[assignment]
    match name:
        case "overage_micros_per_1k_tokens":
            return "none to be had" if value is None else f"{_small(value * 1000, currency)} for a million tokens"
        case "retention_days":
            return "for ever" if value is None else f"{value:,} day{'' if value == 1 else 's'}"
        case "included_messages" | "included_tokens" | "agents" | "seats" | "sources":
            return "no bound" if value is None else amount(value)
        case "webhook_endpoints":
            return f"{MAX_WEBHOOK_ENDPOINTS if value is None else value}"
        case _:
            assert_never(name)


def _small(micros: int, currency: str) -> str:
    """An amount below a cent, with as many places as it needs, and at least two."""
    places = next((n for n in range(2, 6) if micros * 10**n % 10**6 == 0), 6)
    sign = _SIGNS.get(currency)
    amount = f"{micros / 10**6:,.{places}f}"
    return f"{sign}{amount}" if sign else f"{amount} {currency.upper()}"
