"""What models cost: a dated list of public prices, and a tenant's own in place of it.

Money is counted in micro-dollars (a millionth of a US dollar) and kept in whole numbers. A price is micro-dollars for a
million tokens. A model that neither the tenant nor the list knows has no price, and its cost is None, never 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.db.tenancy import TenantRow
from stonechat.errors import InvalidInput

CURRENCY = "USD"
MICROS = 1_000_000
MAX_PRICES = 200
"""A tenant's own."""
MAX_TOKENS = 1_000_000_000
"""Of one ledger entry: more is a host's mistake, and would not fit the sums."""
_DATED = re.compile(r"-20\d\d-?\d\d-?\d\d$")


class UsagePriceRow(TenantRow):
    """A price of the tenant's own."""

    __tablename__ = "usage_prices"

    provider: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    input_micros: Mapped[int] = mapped_column(BigInteger)
    cached_micros: Mapped[int] = mapped_column(BigInteger)
    output_micros: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[str]


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-dollars for a million tokens, and which list says so."""

    input_micros: int
    cached_micros: int
    output_micros: int
    version: str

    def cost(self, *, input_tokens: int, output_tokens: int, cached_tokens: int) -> int:
        """Micro-dollars, rounded half up. `usage_settle` in SQL reckons the same way."""
        total = (
            (input_tokens - cached_tokens) * self.input_micros
            + cached_tokens * self.cached_micros
            + output_tokens * self.output_micros
        )
        return (total + MICROS // 2) // MICROS


@cache
def _list() -> tuple[str, dict[tuple[str, str], Price]]:
    table: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text(), parse_float=Decimal)
    version = f"list:{table['version']}"
    prices = {
        (provider, model): Price(
            _micros(price["input"]), _micros(price.get("cached", price["input"])), _micros(price["output"]), version
        )
        for provider, models in table["models"].items()
        for model, price in models.items()
    }
    return version, prices


def _micros(dollars: Decimal | int) -> int:
    return int(dollars * MICROS)


def list_version() -> str:
    """Which list of public prices this is, such as `list:2026-11-22`."""
    return _list()[0]


def list_price(provider: str, model: str) -> Price | None:
    """The public price; a dated snapshot of a model costs what the model does. None if the list has none."""
    prices = _list()[1]
    return prices.get((provider, model)) or prices.get((provider, _DATED.sub("", model)))


Dollars = Annotated[Decimal, Field(ge=0, le=1000, max_digits=10, decimal_places=6)]


class OwnPrice(BaseModel):
    """US dollars for a million tokens of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """The `<provider>` of the model's name."""
    model: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
    input: Dollars
    output: Dollars
    cached: Dollars | None = None
    """Of input that the provider had in its cache; None if it costs the same."""


class OwnPrices(BaseModel):
    """A tenant's own prices; they hold for what is used from now on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prices: Annotated[list[OwnPrice], Field(max_length=MAX_PRICES)]


async def get_prices(session: AsyncSession, actor: Actor) -> OwnPrices:
    """The tenant's own prices, by provider and model."""
    actor.require("read")
    row = UsagePriceRow
    found = await session.scalars(
        select(row).where(row.tenant_id == actor.tenant_id).order_by(row.provider, row.model).limit(MAX_PRICES)
    )
    return OwnPrices(
        prices=[
            OwnPrice(
                provider=price.provider,
                model=price.model,
                input=_dollars(price.input_micros),
                output=_dollars(price.output_micros),
                cached=_dollars(price.cached_micros),
            )
            for price in found
        ]
    )


async def put_prices(session: AsyncSession, actor: Actor, *, prices: Sequence[OwnPrice]) -> OwnPrices:
    """Replace the tenant's own prices. Entries of the ledger keep the price that they were written at."""
    actor.require("admin")
    if len({(price.provider, price.model) for price in prices}) < len(prices):
        raise InvalidInput("A model can have one price only.")
    await session.execute(delete(UsagePriceRow).where(UsagePriceRow.tenant_id == actor.tenant_id))
    version = f"own:{clock.now():%Y-%m-%dT%H:%M:%SZ}"
    if prices:
        await session.execute(insert(UsagePriceRow), [_row(actor.tenant_id, price, version) for price in prices])
    await record_audit(
        session,
        actor,
        "usage.put_prices",
        detail={"prices": [price.model_dump(mode="json", exclude_none=True) for price in prices]},
    )
    return await get_prices(session, actor)


def _row(tenant_id: UUID, price: OwnPrice, version: str) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "provider": price.provider,
        "model": price.model,
        "input_micros": _micros(price.input),
        "cached_micros": _micros(price.input if price.cached is None else price.cached),
        "output_micros": _micros(price.output),
        "version": version,
    }


def _dollars(micros: int) -> Decimal:
    """Plain digits: `0.4`, `20`."""
    text = f"{Decimal(micros) / MICROS:f}"
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)
