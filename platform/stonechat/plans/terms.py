"""What a plan says: `PlanTerms`, and the plans that come with Stonechat."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Feature(StrEnum):
    """What a plan may include or not. What keeps visitors and tenants safe is no feature: every plan has it."""

    WEB_SOURCES = "web_sources"
    """Documents fetched from web pages, sitemaps and whole sites."""
    SCHEDULED_SYNC = "scheduled_sync"
    """Web sources fetched again by the clock."""
    HTTP_TOOLS = "http_tools"
    """Tools that ask a web service of the tenant's."""
    MCP_SERVERS = "mcp_servers"
    """Tools of an MCP server."""
    OWN_MODELS = "own_models"
    """Model providers with a key of the tenant's own."""
    ATTACHMENTS = "attachments"
    """Files that visitors send along."""
    DICTATION = "dictation"
    """Visitors speaking instead of typing."""
    HAND_OVER = "hand_over"
    """A person taking over a conversation."""
    REMOVE_BRANDING = "remove_branding"
    """The widget without “Powered by Stonechat”."""


Bound = Literal["agents", "seats", "sources", "webhook_endpoints"]
"""What is counted as it comes into being."""
MAX_WEBHOOK_ENDPOINTS = 20
"""Of any tenant, whatever its plan: each event is delivered to each of them."""
NumberField = Literal[
    "included_messages",
    "included_tokens",
    "overage_micros_per_1k_tokens",
    "agents",
    "seats",
    "sources",
    "webhook_endpoints",
    "retention_days",
]
NUMBER_FIELDS: tuple[NumberField, ...] = get_args(NumberField)
PlanKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
_Count = Annotated[int, Field(ge=0, le=10**12)]
_Number = Annotated[int, Field(ge=0, le=1_000_000)]


class PlanTerms(BaseModel):
    """One version of a plan. None in a bound means no bound. Published versions never change; a change is a new one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: PlanKey
    version: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
    description: Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    """For whom it is, in a sentence."""
    public: bool = True
    """Whether tenants are offered it; the rest only operators assign."""
    price_cents: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    """For an interval, in hundredths of the currency, before tax."""
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")] = "usd"
    interval: Literal["month", "year"] = "month"
    trial_days: Annotated[int, Field(ge=0, le=730)] = 0
    """Without a card, once for a tenant."""
    included_messages: _Count | None = None
    """Answers of agents a month, whatever the interval of payment."""
    included_tokens: _Count | None = None
    """Input and output tokens a month, of the models that the platform pays for and of the tenant's own."""
    overage_micros_per_1k_tokens: _Count | None = None
    """Millionths of the currency for a thousand tokens beyond the included ones; None: no more can be had."""
    agents: _Number | None = None
    """Retired ones do not count."""
    seats: _Number | None = None
    """Members and open invitations."""
    sources: _Number | None = None
    """Sources, and files that were uploaded by themselves."""
    webhook_endpoints: Annotated[int, Field(ge=0, le=MAX_WEBHOOK_ENDPOINTS)] | None = None
    """Addresses that are told of events; None: as many as a tenant can have at most."""
    retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """How long conversations are kept after their last message."""
    features: frozenset[Feature] = frozenset()

    @model_validator(mode="after")
    def _overage_needs_tokens(self) -> Self:
        if self.overage_micros_per_1k_tokens is not None and self.included_tokens is None:
            raise ValueError("a plan with a price for more tokens says how many are included")
        return self

    @property
    def is_free(self) -> bool:
        """Whether nobody pays for it."""
        return self.price_cents == 0


ALL_FEATURES = frozenset(Feature)

SELF_HOSTED = PlanTerms(
    key="self_hosted",
    name="Self-hosted",
    description="Everything is on, and nothing is bounded: this installation is yours.",
    public=False,
    features=ALL_FEATURES,
)
FREE = PlanTerms(
    key="free",
    name="Free",
    description="To try it on a real site, for as long as you like.",
    included_messages=100,
    included_tokens=400_000,
    agents=1,
    seats=1,
    sources=10,
    retention_days=30,
)
STARTER = PlanTerms(
    key="starter",
    name="Starter",
    description="For one site whose visitors ask every day.",
    price_cents=2_900,
    trial_days=14,
    included_messages=2_000,
    included_tokens=10_000_000,
    agents=3,
    seats=3,
    sources=100,
    retention_days=180,
    features=frozenset({Feature.WEB_SOURCES, Feature.ATTACHMENTS, Feature.DICTATION, Feature.HAND_OVER}),
)
PRO = PlanTerms(
    key="pro",
    name="Pro",
    description="For teams whose agents look things up and get things done.",
    price_cents=9_900,
    trial_days=14,
    included_messages=10_000,
    included_tokens=60_000_000,
    overage_micros_per_1k_tokens=2_000,
    agents=10,
    seats=10,
    sources=1_000,
    retention_days=365,
    features=ALL_FEATURES - {Feature.REMOVE_BRANDING},
)
BUSINESS = PlanTerms(
    key="business",
    name="Business",
    description="For many sites, with nobody's name on them but yours.",
    price_cents=39_900,
    included_messages=50_000,
    included_tokens=300_000_000,
    overage_micros_per_1k_tokens=1_500,
    agents=50,
    seats=50,
    sources=10_000,
    retention_days=None,
    features=ALL_FEATURES,
)

BUILT_IN: dict[str, PlanTerms] = {plan.key: plan for plan in (SELF_HOSTED, FREE, STARTER, PRO, BUSINESS)}
"""By key, the cheapest first. An operator's versions of the same keys come after these."""
