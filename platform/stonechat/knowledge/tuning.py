"""How a tenant searches: read, checked and changed. A change of the embedding model builds a new index in the background."""

from __future__ import annotations

import math
import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.errors import InvalidInput
from stonechat.knowledge.embeddings import MAX_DIMENSIONS, MIN_DIMENSIONS, EmbeddingModel
from stonechat.knowledge.fusion import Fusion
from stonechat.knowledge.generations import begin_generation, generations_of
from stonechat.knowledge.index import Layout
from stonechat.knowledge.index_models import Generation, KnowledgeSettings
from stonechat.knowledge.layouts import places_of
from stonechat.providers.models import ModelProvider

MAX_NAME, MAX_URL = 200, 2000
_MODEL_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")


class SearchSettings(BaseModel):
    """How a tenant's documents are searched. Left empty: by words alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    embedding_provider: str | None = Field(None, max_length=40, description="Name of one of your model providers.")
    embedding_model: str | None = Field(None, max_length=MAX_NAME, description="Its own name for the model.")
    embedding_dimensions: int | None = Field(
        None, ge=MIN_DIMENSIONS, le=MAX_DIMENSIONS, description="Asked of the model; null: whatever it makes."
    )
    fusion: Fusion = Field("rrf", description="How the rankings by words and by meaning become one.")
    reranker_url: str | None = Field(None, max_length=MAX_URL, description="The whole address, such as …/v1/rerank.")
    reranker_model: str | None = Field(None, max_length=MAX_NAME)
    reranker_secret: str | None = Field(None, max_length=200, description="Name of the secret that holds its key.")
    score_floor: float | None = Field(
        None, gt=0, le=1, description="Below it, nothing counts as found. Null: no floor. See the guide before use."
    )


class BuildView(BaseModel):
    """A build of the index: how far it has come, or why it failed."""

    generation: int
    state: Literal["building", "live", "retired", "failed"]
    embedding_model: str | None
    done: int
    total: int
    error: str | None
    created_at: AwareDatetime

    @classmethod
    def of(cls, row: Generation) -> BuildView:
        """From the row."""
        model = f"{row.embedding_provider}/{row.embedding_model}" if row.embedding_model else None
        return cls.model_validate(
            {name: getattr(row, name) for name in cls.model_fields if name != "embedding_model"}
            | {"embedding_model": model}
        )


class SearchSettingsView(SearchSettings):
    """The settings, and what the index is at the moment."""

    searches_by_meaning: bool = Field(description="Whether the index that answers now has vectors.")
    builds: list[BuildView] = Field(description="Newest first.")


async def get_settings(session: AsyncSession, actor: Actor) -> SearchSettingsView:
    """The tenant's settings and builds."""
    actor.require("read")
    row = await settings_row(session, actor)
    places = await places_of(session, actor.tenant_id)
    builds = await generations_of(session, actor.tenant_id)
    fields = {name: getattr(row, name) for name in SearchSettings.model_fields} if row is not None else {}
    return SearchSettingsView.model_validate(
        fields
        | {"searches_by_meaning": places.live.model is not None, "builds": [BuildView.of(each) for each in builds]}
    )


async def settings_row(session: AsyncSession, actor: Actor) -> KnowledgeSettings | None:
    """The row, or None where everything is as at first."""
    row: KnowledgeSettings | None = await session.scalar(
        select(KnowledgeSettings)
        .where(KnowledgeSettings.tenant_id == actor.tenant_id)
        .execution_options(populate_existing=True)
    )
    return row


async def put_settings(
    session: AsyncSession, actor: Actor, *, settings: SearchSettings, layout: Layout = "per_tenant"
) -> SearchSettingsView:
    """Replace the settings. With another embedding model, or after a build that failed, a new build begins.

    `layout` is that of tenants who have none yet. Raises `InvalidInput`.
    """
    actor.require("write")
    await _check(session, actor, settings)
    values = settings.model_dump()
    await session.execute(
        insert(KnowledgeSettings)
        .values(tenant_id=actor.tenant_id, **values)
        .on_conflict_do_update(index_elements=["tenant_id"], set_={**values, "updated_at": func.now()})
    )
    await begin_generation(session, actor.tenant_id, model=model_of(settings), default_layout=layout)
    await record_audit(
        session,
        actor,
        "knowledge.settings",
        detail={"embedding_model": settings.embedding_model, "fusion": settings.fusion},
    )
    return await get_settings(session, actor)


def model_of(settings: SearchSettings) -> EmbeddingModel | None:
    """The embedding model that the settings name."""
    if settings.embedding_provider is None or settings.embedding_model is None:
        return None
    return EmbeddingModel(settings.embedding_provider, settings.embedding_model, settings.embedding_dimensions)


async def _check(session: AsyncSession, actor: Actor, settings: SearchSettings) -> None:
    provider, model = settings.embedding_provider, settings.embedding_model
    if bool(provider) != bool(model):
        raise _invalid("embedding_model" if provider else "embedding_provider", "Choose both, or neither.")
    if provider and not await session.scalar(
        select(func.count())
        .select_from(ModelProvider)
        .where(ModelProvider.tenant_id == actor.tenant_id, ModelProvider.name == provider)
    ):
        raise _invalid("embedding_provider", "There is no model provider of this name. Add it first, with its key.")
    if model and not _MODEL_NAME.fullmatch(model):
        raise _invalid("embedding_model", "A model's name has no spaces.")
    if settings.embedding_dimensions is not None and not model:
        raise _invalid("embedding_dimensions", "Leave it out where no embedding model is chosen.")
    if settings.score_floor is not None and not math.isfinite(settings.score_floor):
        raise _invalid("score_floor", "Give a number between 0 and 1.")
    if settings.reranker_url is None:
        for name in ("reranker_model", "reranker_secret"):
            if getattr(settings, name):
                raise _invalid(name, "Leave it out where no reranker's address is given.")
        return
    try:
        parts = urlsplit(settings.reranker_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        usable = False
    if not usable or not all("!" <= character <= "~" for character in settings.reranker_url):
        raise _invalid("reranker_url", "Give a plain http(s) address without a user name.")


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[{"field": field, "message": message}])
