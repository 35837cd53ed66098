"""The list of public prices, and how costs are reckoned."""

from __future__ import annotations

import re

import pytest

from stonechat.usage.prices import Price, list_price, list_version


def test_the_list_says_of_when_it_is() -> None:
    assert re.fullmatch(r"list:20\d\d-\d\d-\d\d", list_version())


@pytest.mark.parametrize(
    ("provider", "model", "dollars"),
    [
        ("openai", "gpt-4.1-mini", 0.4),
        ("openai", "gpt-4.1-mini-2025-04-14", 0.4),
        ("anthropic", "claude-sonnet-4-5-20250929", 3),
        ("built-in", "extractive", 0),
    ],
)
def test_a_model_and_its_snapshots_have_a_price(provider: str, model: str, dollars: float) -> None:
    price = list_price(provider, model)
    assert price is not None
    assert price.input_micros == dollars * 1_000_000
    assert price.cached_micros <= price.input_micros


@pytest.mark.parametrize(("provider", "model"), [("openai", "gpt-unheard-of"), ("our-own-host", "gpt-4.1"), ("", "")])
def test_what_nobody_knows_has_no_price(provider: str, model: str) -> None:
    assert list_price(provider, model) is None


def test_costs_are_whole_and_rounded_half_up() -> None:
    price = Price(400_000, 100_000, 1_600_000, "list:test")
    assert price.cost(input_tokens=1, output_tokens=0, cached_tokens=0) == 0
    assert price.cost(input_tokens=2, output_tokens=0, cached_tokens=0) == 1
    assert price.cost(input_tokens=1000, output_tokens=100, cached_tokens=600) == 160 + 60 + 160
