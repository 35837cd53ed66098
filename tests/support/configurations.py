"""Configurations as people write them: by chance, and one with a bit of everything."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st

from stonechat.accounts.actor import system
from stonechat.api.config import means_of
from stonechat.configuration.configuration import apply_configuration, read_configuration
from stonechat.configuration.document import Configuration
from stonechat.configuration.plan import Applied
from stonechat.configuration.texts import check_values
from support.management import Keyed, Management

PUBLIC_KEY = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


def everything() -> dict[str, Any]:
    """A bit of everything that can be configured."""
    tool = {
        "kind": "http",
        "name": "order_status",
        "description": "Looks an order up.",
        "url": "https://shop.example/orders/{order}",
        "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
        "secret_headers": {"Authorization": "shop_key"},
    }
    return {
        "version": 1,
        "secrets": [{"name": "shop_key", "value": "Bearer swordfish"}],
        "model_providers": [
            {"name": "anthropic", "kind": "openai_compatible", "preset": "anthropic", "api_key": "sk-ant-marlin"},
            {"name": "own", "kind": "openai", "api_key": "sk-own-halibut"},
        ],
        "identity_keys": [{"kind": "pem", "kid": "shop-1", "public_key": PUBLIC_KEY}],
        "limits": {"visitor": {"messages_per_minute": 7}},
        "usage": {
            "budget": {"max_tokens": 1_000_000, "message": " Come back next month. "},
            "steps": {"steps": ["cheaper_model", "ask_email"], "cheaper_model": "extractive"},
            "prices": [{"provider": "own", "model": "m-1", "input": "0.40", "output": 2}],
        },
        "knowledge": {
            "search": {"score_floor": 0.2},
            "sources": [
                {"type": "text", "name": "Returns", "text": "Within 30 days.\n", "url": "https://shop.example/returns"},
                {"type": "faq", "name": "Questions", "pairs": [{"question": "Where?", "answer": "In Riga."}]},
                {"type": "site", "url": "HTTP://127.0.0.1:9/docs/../help/", "max_pages": 20, "exclude": ["/help/old"]},
            ],
        },
        "agents": [
            {
                "draft": {"name": "Shop", "model": "own/m-1", "tools": [tool], "theme": {"accent": "#aa0000"}},
                "published": "draft",
                "domain_keys": [
                    {"name": "Shop", "origins": ["https://Shop.example/"]},
                    {"name": "Test", "environment": "development", "origins": ["http://localhost:3000"]},
                ],
            },
            {
                "draft": {"name": "Shop", "greeting": "New words"},
                "published": {"name": "Shop", "greeting": "Old words"},
            },
            {"draft": {"name": "Not yet"}},
        ],
        "webhook_endpoints": [{"url": "https://hooks.example/in", "events": ["agent.published"], "enabled": False}],
    }


async def apply(house: Management, shop: Keyed, values: dict[str, Any] | Configuration, **options: bool) -> Applied:
    """Apply it to a tenant, as the platform itself."""
    wanted = values if isinstance(values, Configuration) else check_values(values)
    return await apply_configuration(
        house.services.database,
        system(shop.tenant_id),
        means=means_of(house.services),
        wanted=wanted,
        **options,
    )


async def read(house: Management, shop: Keyed, *, content: bool = True) -> Configuration:
    """What the tenant configured."""
    async with house.services.database.tenant(shop.tenant_id) as session:
        return await read_configuration(
            session, system(shop.tenant_id), means=means_of(house.services), content=content
        )


def portable(values: Any) -> Any:
    """A document without what is each tenant's own: ids, and placeholders that hold them."""
    if isinstance(values, dict):
        return {key: portable(value) for key, value in values.items() if key not in ("id", "tenant", "secret")}
    return [portable(value) for value in values] if isinstance(values, list) else values


# By chance

_words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60)
_line = st.from_regex(r"[A-Za-z0-9 :#'\"{}é☃-]{1,20}[a-z]", fullmatch=True)
_few = st.sampled_from(["Ada", "Ben", "Cleo"])
_number = st.integers(1, 1000)


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


_config = st.fixed_dictionaries(
    {"name": _few},
    optional={
        "instructions": _words,
        "greeting": _words,
        "temperature": st.none() | st.floats(0, 2),
        "theme": _some(accent=st.just("#00AA00"), scheme=st.sampled_from(["auto", "dark"])),
        "prompts": st.lists(st.fixed_dictionaries({"label": _line, "prompt": _line}), max_size=2),
        "history": _some(max_tokens=st.integers(500, 9000), summarise=st.booleans()),
        "guardrails": _some(input=_some(languages=st.just(["de"]), moderation=st.booleans())),
        "hand_over": _some(enabled=st.booleans()),
        "locale": st.sampled_from(["", "de", "pt-BR"]),
    },
)
_domain_key = st.fixed_dictionaries(
    {"name": _few},
    optional={
        "environment": st.sampled_from(["production", "development"]),
        "origins": st.lists(st.sampled_from(["https://a.example", "https://*.b.example"]), max_size=2),
        "openai_domain_key": st.none() | st.just("domain_pk_1"),
    },
)
_agent = st.fixed_dictionaries(
    {"draft": _config},
    optional={"published": st.none() | st.just("draft") | _config, "domain_keys": st.lists(_domain_key, max_size=3)},
)
_source = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("text"), "name": _few, "text": _line}, optional={"url": st.just("https://a.example/x")}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("faq"),
            "name": _few,
            "pairs": st.lists(st.fixed_dictionaries({"question": _line, "answer": _line}), min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["url", "site"]), "url": st.sampled_from(["http://127.0.0.1:9/", "127.0.0.1/A b"])},
        optional={"name": _few, "max_pages": st.integers(1, 50), "exclude": st.lists(st.just("/old"), max_size=1)},
    ),
)


def _by_name(strategy: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(strategy, max_size=3, unique_by=lambda entry: entry["name"])


configurations = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "secrets": _by_name(
            st.fixed_dictionaries({"name": st.sampled_from(["a", "b"]), "value": st.sampled_from(["one", "two"])})
        ),
        "model_providers": _by_name(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["p", "q"]), "kind": st.just("openai"), "api_key": st.sampled_from(["k", "l"])}
            )
        ),
        "limits": _some(visitor=_some(messages_per_minute=_number), tenant=_some(messages_per_minute=_number)),
        "usage": _some(
            budget=_some(max_tokens=st.none() | _number, message=st.none() | _line),
            steps=_some(steps=st.just(["ask_email"]), email_thanks=_line),
            prices=st.lists(
                st.fixed_dictionaries(
                    {
                        "provider": st.just("p"),
                        "model": st.sampled_from(["m", "n"]),
                        "input": st.sampled_from(["0.40", "20", "0"]),
                        "output": st.sampled_from(["1.5", 3]),
                    },
                    optional={"cached": st.none() | st.just("0.1")},
                ),
                max_size=2,
                unique_by=lambda price: price["model"],
            ),
        ),
        "knowledge": _some(
            search=_some(fusion=st.just("rrf"), score_floor=st.none() | st.just(0.5)),
            sources=st.lists(_source, max_size=4),
        ),
        "agents": st.lists(_agent, max_size=3),
        "webhook_endpoints": st.lists(
            st.fixed_dictionaries(
                {"url": st.sampled_from(["https://a.example/hook", "https://b.example"])},
                optional={"description": _line, "enabled": st.booleans(), "events": st.none()},
            ),
            max_size=2,
        ),
    },
)
