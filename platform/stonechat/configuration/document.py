"""The document: what a tenant configures, by names that another tenant understands as well. Never a secret.

A part that is left out is left alone. Ids are hints: they tell a renamed thing from a new one where they fit, and are passed
over where they do not, so that one tenant's document can be applied to another. `docs/configuration.md` tells it to people.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from stonechat.accounts.secrets import MAX_NAME_LENGTH, MAX_SECRETS, MAX_VALUE_LENGTH
from stonechat.assistant.agents import MAX_AGENTS
from stonechat.assistant.config import AgentConfig
from stonechat.identity.domain_keys import MAX_KEYS, NewDomainKey
from stonechat.identity.identity_keys import MAX_IDENTITY_KEYS, Kid, NewKeySet, NewPemKey, PublicAlgorithm
from stonechat.knowledge.editing import MAX_PAIRS
from stonechat.knowledge.schemas import Pair, WebSourceIn
from stonechat.knowledge.tuning import SearchSettings
from stonechat.limits.rules import LimitRules
from stonechat.providers.presets import PresetId
from stonechat.providers.service import MAX_KEY_LENGTH, MAX_PROVIDERS, MAX_URL_LENGTH, ProviderKind
from stonechat.usage.allowance import Steps
from stonechat.usage.prices import MAX_PRICES, OwnPrice
from stonechat.usage.quota import Budget
from stonechat.webhooks.endpoints import MAX_ENDPOINTS, EndpointFields

VERSION = 1
MAX_SOURCES = 5_000
_PLACEHOLDER = re.compile(r"\$\{[A-Za-z0-9_.:/=~+ -]{1,300}\}")

Id = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Title = Annotated[str, Field(min_length=1, max_length=300)]


def placeholder(*path: str) -> str:
    """What stands where a secret is: `${model_providers.openai.api_key}`."""
    return f"${{{'.'.join(path)}}}"


def filled_in(value: str | None) -> str | None:
    """The value that somebody wrote in place of a placeholder; None: what there is, is kept."""
    return None if value is None or _PLACEHOLDER.fullmatch(value) else value


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TenantEntry(Entry):
    """Where the document came from. The command line applies it there, unless it is told another tenant."""

    id: UUID
    name: Annotated[str, Field(max_length=300)] = ""


class DomainKeyEntry(NewDomainKey):
    """A domain key, known by its id, or by its name among the agent's. The key itself is each tenant's own."""

    id: Id | None = None


def _kind_of_published(value: object) -> str:
    return "draft" if isinstance(value, str) else "config"


class AgentEntry(Entry):
    """An agent, known by its id, or by its name. Agents of one name are taken in the order in which they were made."""

    id: Id | None = None
    draft: AgentConfig
    published: (
        Annotated[
            Annotated[Literal["draft"], Tag("draft")] | Annotated[AgentConfig, Tag("config")],
            Discriminator(_kind_of_published),
        ]
        | None
    ) = None
    """What visitors meet: `draft` for the same, a configuration of its own, or null to leave it as it is."""
    domain_keys: Annotated[list[DomainKeyEntry], Field(max_length=MAX_KEYS)] | None = None


class WebEntry(WebSourceIn):
    """Pages on the web, known by id, or by kind and address."""

    id: Id | None = None


class _Written(Entry):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class TextEntry(_Written):
    """A text written here, known by id, or by name. Without `text`, what it says is left alone."""

    type: Literal["text"]
    id: Id | None = None
    name: Title
    url: Annotated[str, Field(max_length=2000)] | None = None
    text: Annotated[str, Field(min_length=1, max_length=2_000_000)] | None = None


class FaqEntry(_Written):
    """Question-answer pairs, known by id, or by name. Without `pairs`, they are left alone."""

    type: Literal["faq"]
    id: Id | None = None
    name: Title
    url: Annotated[str, Field(max_length=2000)] | None = None
    pairs: Annotated[list[Pair], Field(min_length=1, max_length=MAX_PAIRS)] | None = None


SourceEntry = Annotated[WebEntry | TextEntry | FaqEntry, Field(discriminator="type")]


class KnowledgeEntry(Entry):
    search: SearchSettings | None = None
    sources: Annotated[list[SourceEntry], Field(max_length=MAX_SOURCES)] | None = None


class ProviderEntry(Entry):
    """A model provider, known by its name."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    kind: ProviderKind
    preset: PresetId | None = None
    base_url: Annotated[str, Field(max_length=MAX_URL_LENGTH)] | None = None
    api_key: Annotated[str | None, Field(min_length=1, max_length=MAX_KEY_LENGTH, repr=False)] = None
    """The placeholder, or nothing, keeps the key that there is; a key in its place is stored."""


class SecretEntry(Entry):
    """A secret of the tenant's, known by its name."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
    value: Annotated[str | None, Field(min_length=1, max_length=MAX_VALUE_LENGTH, repr=False)] = None
    """The placeholder, or nothing, keeps the value that there is; a value in its place is stored."""


class SharedKeyEntry(Entry):
    """A shared secret for user tokens. It is made in a tenant and leaves it never: a document cannot make one."""

    kind: Literal["hs256"]
    kid: Kid
    secret: Annotated[str | None, Field(max_length=300, repr=False)] = None


class PemKeyEntry(NewPemKey):
    """A public key, known by its `kid`."""

    kid: Kid
    algorithm: PublicAlgorithm | None = None


class KeySetEntry(NewKeySet):
    """A set of public keys, known by the `kid` of its first."""


IdentityKeyEntry = Annotated[SharedKeyEntry | PemKeyEntry | KeySetEntry, Field(discriminator="kind")]


class UsageEntry(Entry):
    budget: Budget | None = None
    steps: Steps | None = None
    prices: Annotated[list[OwnPrice], Field(max_length=MAX_PRICES)] | None = None


class WebhookEntry(EndpointFields):
    """A webhook endpoint, known by its id, or by its address. Its secret is each tenant's own."""

    id: Id | None = None
    enabled: bool = True
    secret: Annotated[str | None, Field(max_length=300, repr=False)] = None


class Configuration(Entry):
    """A tenant's configuration. What is left out is left alone."""

    version: Literal[1]
    tenant: TenantEntry | None = None
    secrets: Annotated[list[SecretEntry], Field(max_length=MAX_SECRETS)] | None = None
    model_providers: Annotated[list[ProviderEntry], Field(max_length=MAX_PROVIDERS)] | None = None
    identity_keys: Annotated[list[IdentityKeyEntry], Field(max_length=MAX_IDENTITY_KEYS)] | None = None
    limits: LimitRules | None = None
    usage: UsageEntry | None = None
    knowledge: KnowledgeEntry | None = None
    agents: Annotated[list[AgentEntry], Field(max_length=MAX_AGENTS)] | None = None
    webhook_endpoints: Annotated[list[WebhookEntry], Field(max_length=MAX_ENDPOINTS)] | None = None

    @field_validator("secrets", "model_providers")
    @classmethod
    def _names_differ(cls, entries: list[SecretEntry] | list[ProviderEntry] | None) -> Any:
        names = [entry.name for entry in entries or ()]
        if len(set(names)) < len(names):
            raise ValueError(f"“{next(name for name in names if names.count(name) > 1)}” stands there twice")
        return entries
