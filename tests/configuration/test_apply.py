"""Applying a document: what it makes, changes, leaves and asks for; all of it or nothing; and again, nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from stonechat.accounts.actor import Actor
from stonechat.api.config import means_of
from stonechat.configuration import configuration
from stonechat.configuration.configuration import apply_configuration
from stonechat.configuration.plan import Applied
from stonechat.configuration.texts import as_values, check_values
from stonechat.errors import (
    Conflict,
    FeatureNotInPlan,
    InvalidInput,
    ModelUnknown,
    PlanLimitReached,
    ScopeMissing,
    StonechatError,
    SwitchedOff,
    TargetNotAllowed,
    Unavailable,
)
from stonechat.plans.overrides import add_override
from support.configurations import apply, configurations, everything, portable, read
from support.management import Keyed, Management, management
from support.postgres import TestDatabase


@pytest.fixture(scope="module")
async def house(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Management]:
    async with management(test_database, tmp_path_factory.mktemp("configuration")) as opened:
        yield opened


def done(applied: Applied) -> list[tuple[str, str, str]]:
    return [(change.action, change.kind, change.name) for change in applied.changes]


async def rows_of(house: Management, shop: Keyed) -> dict[str, int]:
    counts = {}
    async with house.services.database.tenant(shop.tenant_id) as session:
        for table in (
            "agents",
            "agent_versions",
            "domain_keys",
            "sources",
            "documents",
            "model_providers",
            "audit_log",
        ):
            query = text(f"select count(*) from {table} where tenant_id = :t")
            counts[table] = int(await session.scalar(query, {"t": shop.tenant_id}) or 0)
    return counts


WRITTEN_OUT = (("secret", "secrets"), ("model provider", "model_providers"))
"""Things whose secrets stand in the document, and the part of it."""


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(configurations)
async def test_what_is_applied_stays_whatever_it_is(house: Management, values: dict[str, Any]) -> None:
    """Of any configuration: again it only stores secrets anew; its export changes nothing, and makes another tenant the same."""
    shop, other = await house.tenant("Any"), await house.tenant("Other")
    first = await apply(house, shop, values)
    again = await apply(house, shop, values)
    stored = [("change", kind, entry["name"]) for kind, part in WRITTEN_OUT for entry in values.get(part, ())]
    assert (done(again), again.to_do) == (stored, []), values
    assert again.unchanged + len(stored) >= len([change for change in first.changes if change.action == "create"])
    exported = await read(house, shop)
    itself = await apply(house, shop, exported, prune=True)
    assert (done(itself), itself.to_do) == ([], [])
    await apply(house, other, values)
    moved = await apply(house, other, exported)
    assert done(moved) == []
    assert portable(as_values(await read(house, other))) == portable(as_values(exported))


async def test_everything_goes_from_one_tenant_to_another_but_secrets(house: Management) -> None:
    shop, other = await house.tenant("Whole"), await house.tenant("Copy")
    made = await apply(house, shop, everything())
    assert {kind for action, kind, _ in done(made) if action == "create"} == {
        "secret",
        "model provider",
        "identity key",
        "source",
        "agent",
        "domain key",
        "webhook endpoint",
    }
    exported = await read(house, shop)
    told = str(as_values(exported))
    assert not any(fish in told for fish in ("swordfish", "marlin", "halibut"))
    assert "${secrets.shop_key.value}" in told
    # Pages and servers still have to be told of new keys, and nobody else knows the secrets.
    copied = await apply(house, other, exported)
    asked = [item.path for item in copied.to_do]
    assert asked == [
        "secrets.0.value",
        "model_providers.0.api_key",
        "model_providers.1.api_key",
        "agents.0.published",
        "agents.0.domain_keys.0",
        "agents.0.domain_keys.1",
        "webhook_endpoints.0.secret",
    ]
    filled = as_values(exported)
    filled["secrets"][0]["value"] = "another value"
    for provider in filled["model_providers"]:
        provider["api_key"] = "sk-of-the-other"
    completed = await apply(house, other, filled)
    assert completed.to_do == []
    assert ("change", "agent", "Shop") in done(completed)
    assert portable(as_values(await read(house, other))) == portable(as_values(exported))
    assert done(await apply(house, other, exported)) == []


async def test_a_dry_run_says_the_same_and_does_nothing(house: Management) -> None:
    shop = await house.tenant("Dry")
    before = await rows_of(house, shop)
    folder = house.services.settings.data_dir / "files" / shop.tenant_id.hex
    told = await apply(house, shop, everything(), dry_run=True)
    assert (await rows_of(house, shop), folder.exists(), told.dry_run) == (before, False, True)
    made = await apply(house, shop, everything())
    assert done(told) == done(made)
    assert [change.says for change in told.changes] == [change.says for change in made.changes]
    assert not any("pk_" in item.says for item in told.to_do)
    assert any("pk_" in item.says for item in made.to_do)
    assert "Create the agent “Shop”." in [change.says for change in made.changes]
    changed = {"version": 1, "limits": {"visitor": {"messages_per_minute": 8, "concurrent": 9}}}
    [change] = (await apply(house, shop, changed, dry_run=True)).changes
    assert change.says == "Change the limits: visitor.concurrent, visitor.messages_per_minute."


async def test_nothing_is_removed_unless_asked_for_and_then_only_of_parts_that_are_there(house: Management) -> None:
    shop = await house.tenant("Prune")
    await apply(house, shop, everything())
    less: dict[str, Any] = {"version": 1, "agents": everything()["agents"][:1], "secrets": [], "webhook_endpoints": []}
    less["agents"][0]["domain_keys"].pop()
    kept = await apply(house, shop, less)
    left = [
        ("leave", "secret", "shop_key"),
        ("leave", "agent", "Shop"),
        ("leave", "agent", "Not yet"),
        ("leave", "domain key", "Test"),
        ("leave", "webhook endpoint", "https://hooks.example/in"),
    ]
    assert done(kept) == left
    pruned = await apply(house, shop, less, prune=True)
    assert done(pruned) == [("remove", kind, name) for _, kind, name in left]
    exported = as_values(await read(house, shop))
    assert [agent["draft"]["name"] for agent in exported["agents"]] == ["Shop"]
    assert len(exported["knowledge"]["sources"]) == 3
    assert [provider["name"] for provider in exported["model_providers"]] == ["anthropic", "own"]


async def test_a_renamed_agent_is_known_by_its_id_and_a_retired_one_comes_back(house: Management) -> None:
    shop = await house.tenant("Rename")
    await apply(house, shop, {"version": 1, "agents": [{"draft": {"name": "Before"}, "published": "draft"}]})
    values = as_values(await read(house, shop))
    [agent] = values["agents"]
    agent["draft"]["name"] = "After"
    renamed = await apply(house, shop, values)
    assert done(renamed) == [("change", "agent", "After")]
    assert renamed.changes[0].fields == ["draft.name", "published"]
    await apply(house, shop, {"version": 1, "agents": []}, prune=True)
    back = await apply(house, shop, values)
    assert [(change.action, change.fields) for change in back.changes] == [("change", ["retired"])]
    assert as_values(await read(house, shop)) == values


async def test_written_sources_change_and_web_sources_get_other_bounds(house: Management) -> None:
    shop = await house.tenant("Sources")
    await apply(house, shop, everything())
    values = as_values(await read(house, shop))
    written, faq, site = values["knowledge"]["sources"]
    assert (written["text"], site["url"]) == ("Within 30 days.", "http://127.0.0.1:9/help/")
    written["text"], faq["name"], site["max_pages"], site["name"] = "Within 60 days.", "Asked", 30, "Help"
    changed = await apply(house, shop, values)
    assert [(change.name, change.fields) for change in changed.changes] == [
        ("Returns", ["text"]),
        ("Asked", ["name"]),
        ("Help", ["max_pages", "name"]),
    ]
    assert as_values(await read(house, shop)) == values
    without = as_values(await read(house, shop, content=False))
    assert "text" not in {k for k, v in without["knowledge"]["sources"][0].items() if v is not None}
    assert done(await apply(house, shop, without)) == []
    stranger = await house.tenant("Sources of others")
    asked = await apply(house, stranger, {"version": 1, "knowledge": {"sources": without["knowledge"]["sources"][:2]}})
    assert [item.path for item in asked.to_do] == ["knowledge.sources.0", "knowledge.sources.1"]


async def test_ids_of_another_tenant_mean_nothing(house: Management) -> None:
    shop, other = await house.tenant("Victim"), await house.tenant("Thief")
    await apply(house, shop, everything())
    before = as_values(await read(house, shop))
    stolen = as_values(await read(house, shop))
    stolen["agents"] = [{"id": agent["id"], "draft": {"name": "Taken over"}} for agent in stolen["agents"]]
    made = await apply(house, other, stolen, prune=True)
    assert [change.action for change in made.changes if change.kind == "agent"] == ["create"] * 3
    assert as_values(await read(house, shop)) == before


def broken(path: str, value: Any) -> dict[str, Any]:
    values: Any = everything()
    place = values
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    return dict(values)


@pytest.mark.parametrize(
    ("path", "value", "error", "field"),
    [
        ("agents.1.published", {"name": "Shop", "model": "nobody/m"}, ModelUnknown, "agents.1.published"),
        ("agents.0.domain_keys.1.origins", ["ftp://x"], InvalidInput, "agents.0.domain_keys.1.origins.0"),
        ("knowledge.sources.2.url", "http://10.0.0.1/", TargetNotAllowed, "knowledge.sources.2"),
        (
            "knowledge.search",
            {"embedding_provider": "x", "embedding_model": "y"},
            InvalidInput,
            "knowledge.search.embedding_provider",
        ),
        ("identity_keys.0.public_key", "not a key", InvalidInput, "identity_keys.0.public_key"),
        (
            "model_providers.1",
            {"name": "own", "kind": "openai_compatible", "base_url": "http://10.1.1.1"},
            TargetNotAllowed,
            "model_providers.1",
        ),
        ("secrets.0.name", "Not A Name", InvalidInput, "secrets.0.name"),
        ("webhook_endpoints.0.events", ["no.such"], InvalidInput, "webhook_endpoints.0.events"),
        ("usage.prices", [{"provider": "p", "model": "m", "input": 1, "output": 1}] * 2, InvalidInput, "usage.prices"),
    ],
)
async def test_an_error_names_its_place_and_nothing_is_done(
    house: Management, path: str, value: Any, error: type[StonechatError], field: str
) -> None:
    shop = await house.tenant("Broken")
    before = await rows_of(house, shop)
    for dry_run in (True, False):
        with pytest.raises(error) as refused:
            await apply(house, shop, broken(path, value), dry_run=dry_run)
        assert [fault["field"] for fault in refused.value.members["errors"]] == [field]
    assert await rows_of(house, shop) == before
    assert not (house.services.settings.data_dir / "files" / shop.tenant_id.hex).exists()


async def test_keys_are_not_sent_to_another_address_and_public_keys_not_replaced(house: Management) -> None:
    shop = await house.tenant("Keys")
    await apply(house, shop, everything())
    moved = everything()
    moved["model_providers"][0] |= {"preset": None, "base_url": "https://evil.example/v1", "api_key": None}
    with pytest.raises(Conflict, match="another address"):
        await apply(house, shop, moved)
    swapped = everything()
    swapped["identity_keys"] = [{"kind": "jwks", "keys": [{"kid": "shop-1", **_JWK}]}]
    with pytest.raises(Conflict, match="kid"):
        await apply(house, shop, swapped)


_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}


async def test_nobody_learns_by_guessing_what_a_secret_is(house: Management) -> None:
    shop = await house.tenant("Guesses")
    await apply(house, shop, everything())
    answers = []
    for secret, key in (("Bearer swordfish", "sk-own-halibut"), ("Bearer guess", "sk-own-guess")):
        guess: dict[str, Any] = {"version": 1, "secrets": [{"name": "shop_key", "value": secret}]}
        guess["model_providers"] = [{"name": "own", "kind": "openai", "api_key": key}]
        answers.append(await apply(house, shop, guess, dry_run=True))
    assert answers[0] == answers[1]
    assert [change.action for change in answers[0].changes if change.name in ("shop_key", "own")] == ["change"] * 2


async def test_the_plan_holds(house: Management) -> None:
    shop = await house.tenant("Small plan")
    for field, value in (("agents", 1), ("http_tools", False)):
        async with house.services.database.tenant(shop.tenant_id) as session:
            await add_override(
                session, shop.tenant_id, field=field, value=value, reason="Small.", expires_at=None, by="opr_test"
            )
    with pytest.raises(FeatureNotInPlan) as lacking:
        await apply(house, shop, everything())
    assert lacking.value.members["errors"][0]["field"] == "agents.0.draft"
    two = {"version": 1, "agents": [{"draft": {"name": "One"}}, {"draft": {"name": "Two"}}]}
    with pytest.raises(PlanLimitReached) as full:
        await apply(house, shop, two)
    assert full.value.members["errors"][0]["field"] == "agents.1.draft"
    # What goes makes room for what comes.
    await apply(house, shop, {"version": 1, "agents": [{"draft": {"name": "One"}}]})
    await apply(house, shop, {"version": 1, "agents": [{"draft": {"name": "Three"}}]}, prune=True)


async def test_scopes_are_those_of_the_verbs(house: Management) -> None:
    shop = await house.tenant("Scopes")
    means = means_of(house.services)

    async def by(scope: str, values: dict[str, Any]) -> None:
        actor = Actor(shop.tenant_id, "api_key", "key_1", frozenset({scope}))
        wanted = check_values(values)
        await apply_configuration(house.services.database, actor, means=means, wanted=wanted)

    with pytest.raises(ScopeMissing):
        await by("read", {"version": 1})
    await by("write", {"version": 1, "agents": [{"draft": {"name": "A"}}]})
    with pytest.raises(ScopeMissing) as refused:
        await by("write", {"version": 1, "usage": {"budget": {"max_tokens": 5}}})
    assert refused.value.members["errors"][0]["field"] == "usage.budget"
    await by("admin", {"version": 1, "usage": {"budget": {"max_tokens": 5}}})


async def test_it_is_noted_once_and_only_if_something_was_done(house: Management) -> None:
    shop = await house.tenant("Audit of it")
    await apply(house, shop, everything())
    await apply(house, shop, await read(house, shop))
    [noted] = (await shop.call("GET", "/audit-log", params={"action": "configuration"}))["data"]
    assert (noted["detail"]["create"], noted["detail"]["change"], noted["detail"]["pruned"]) == (13, 5, False)
    assert "swordfish" not in str((await shop.call("GET", "/audit-log", params={"limit": 100}))["data"])


async def test_two_at_once_do_not_make_things_twice(house: Management) -> None:
    shop = await house.tenant("Twice")
    both = await asyncio.gather(*(apply(house, shop, everything()) for _ in range(2)), return_exceptions=True)
    assert all(isinstance(each, Applied | Conflict) for each in both), both
    assert any(isinstance(each, Applied) for each in both)
    assert (await rows_of(house, shop))["agents"] == 3


@pytest.mark.parametrize(
    ("flag", "part", "field"),
    [
        ("publishing", "agents", "agents.0.published"),
        ("web_sources", "knowledge", "knowledge.sources.2"),
        ("uploads", "knowledge", "knowledge.sources.0"),
    ],
)
async def test_what_operators_switched_off_is_off_here_too(
    house: Management, monkeypatch: pytest.MonkeyPatch, flag: str, part: str, field: str
) -> None:
    shop = await house.tenant("Switched off")
    flags = house.services.flags
    await flags.is_on(flag)  # so that what it knows is fresh
    monkeypatch.setattr(flags, "_rows", {flag: (False, frozenset())})
    monkeypatch.setattr(flags, "_read_at", float("inf"))
    values = everything()
    values["agents"][0]["draft"]["model"] = "extractive"
    with pytest.raises(SwitchedOff) as refused:
        await apply(house, shop, {"version": 1, part: values[part]})
    assert refused.value.members["errors"][0]["field"] == field


async def test_it_ends_in_time_or_does_nothing(house: Management, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await house.tenant("Slow")
    before = await rows_of(house, shop)
    monkeypatch.setattr(configuration, "SECONDS", 0.0)
    with pytest.raises(Unavailable):
        await apply(house, shop, everything())
    assert await rows_of(house, shop) == before
