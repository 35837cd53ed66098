"""Settings: environment variables, read once, validated, and passed down. Nothing else reads `os.environ`."""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIN_SECRET_BYTES = 32


class Settings(BaseSettings):
    """Every setting, by the name of its environment variable."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    environment: Literal["development", "production"] = Field("development", validation_alias="STONECHAT_ENV")
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field((), validation_alias="STONECHAT_SECRET_KEYS")
    """Platform keys, newest first, comma-separated; the rest still verify and decrypt."""
    data_dir: Path = Field(Path(".stonechat"), validation_alias="STONECHAT_DATA_DIR")
    port: int = Field(8000, ge=0, le=65535, validation_alias="PORT")
    configured_public_url: str | None = Field(None, validation_alias="STONECHAT_PUBLIC_URL")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field((), validation_alias="STONECHAT_TRUSTED_PROXIES")
    metrics_port: int | None = Field(None, ge=1, le=65535, validation_alias="STONECHAT_METRICS_PORT")
    """Where Prometheus reads what this process counted, at `/metrics`; none: nowhere. Each process on a machine needs its own."""
    metrics_host: str = Field("127.0.0.1", min_length=1, validation_alias="STONECHAT_METRICS_HOST")
    """The address that the metrics port listens on. It asks nobody who they are: leave it where only Prometheus comes."""
    database_url: str | None = Field(None, validation_alias="DATABASE_URL")
    configured_direct_database_url: str | None = Field(None, validation_alias="STONECHAT_DIRECT_DATABASE_URL")
    configured_owner_database_url: str | None = Field(None, validation_alias="STONECHAT_OWNER_DATABASE_URL")
    database_pool_size: int = Field(10, ge=2, le=500, validation_alias="STONECHAT_DATABASE_POOL_SIZE")
    """Connections per process, over all of its pools."""
    qdrant_url: str | None = Field(None, validation_alias="QDRANT_URL")
    qdrant_api_key: SecretStr | None = Field(None, validation_alias="QDRANT_API_KEY")
    index_layout: Literal["per_tenant", "shared"] = Field("per_tenant", validation_alias="STONECHAT_INDEX_LAYOUT")
    """Of new tenants: a collection each, or one for all who have few passages. A server needs version 1.19 to share."""
    redis_url: str | None = Field(None, validation_alias="REDIS_URL")
    configured_files_url: str | None = Field(None, validation_alias="STONECHAT_FILES_URL")
    s3_access_key_id: str | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    s3_secret_access_key: SecretStr | None = Field(None, validation_alias="AWS_SECRET_ACCESS_KEY")
    s3_session_token: SecretStr | None = Field(None, validation_alias="AWS_SESSION_TOKEN")
    s3_region: str = Field("us-east-1", validation_alias="AWS_REGION", pattern=r"^[a-z0-9-]{1,40}$")
    s3_endpoint: str | None = Field(None, validation_alias="STONECHAT_S3_ENDPOINT")
    """Where an S3-compatible store answers, such as `https://storage.example.com`; without it, Amazon's own in the region."""
    configured_ip_requests_per_minute: int | None = Field(
        None, ge=1, validation_alias="STONECHAT_IP_REQUESTS_PER_MINUTE"
    )
    outbound_allowed: Annotated[tuple[str, ...], NoDecode] = Field(
        (), validation_alias="STONECHAT_OUTBOUND_ALLOWED_NETWORKS"
    )
    """Private networks that requests of tenants may reach all the same, such as the one of a model server."""
    chatkit_script: str = Field(
        "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js", validation_alias="STONECHAT_CHATKIT_SCRIPT"
    )
    """Where OpenAI's front end is, for agents that chose it. Frames of those agents, and no others, may load what lies there."""
    crawl_delay: float = Field(0.5, ge=0, le=60, validation_alias="STONECHAT_CRAWL_DELAY")
    """Seconds between two requests to one host, when web sites are read; a site's robots.txt may ask for more."""
    openai_api_key: SecretStr | None = Field(None, validation_alias="OPENAI_API_KEY")
    default_model: str = Field(
        "extractive",
        validation_alias="STONECHAT_DEFAULT_MODEL",
        pattern=r"^(extractive|[a-z0-9][a-z0-9-]{0,39}/[\x21-\x7e]{1,200})$",
    )
    """Of new agents: `extractive`, or `<provider>/<model>`, such as one of `openai` with the platform's own key."""

    trace_days: int = Field(30, ge=1, le=3650, validation_alias="STONECHAT_TRACE_DAYS")
    """How long it is kept how each answer came about."""
    otlp_endpoint: str | None = Field(None, validation_alias="STONECHAT_OTLP_ENDPOINT")
    """Base address of an OpenTelemetry collector (OTLP over HTTP), such as `http://collector:4318`; none: no export."""
    otlp_headers: SecretStr | None = Field(None, validation_alias="STONECHAT_OTLP_HEADERS")
    """`name=value,…`, such as `authorization=Bearer …`, sent to the collector."""

    stripe_secret_key: SecretStr | None = Field(None, validation_alias="STRIPE_SECRET_KEY")
    """With it plans are paid by Stripe."""
    stripe_webhook_secret: SecretStr | None = Field(None, validation_alias="STRIPE_WEBHOOK_SECRET")
    """What Stripe signs its events with; comma-separated where snapshot and thin events have a secret each."""
    stripe_api_base: str | None = Field(None, validation_alias="STRIPE_API_BASE")
    """In place of all of Stripe's addresses, for tests."""

    configured_sign_up: Literal["open", "invite", "closed"] | None = Field(None, validation_alias="STONECHAT_SIGN_UP")
    smtp_url: SecretStr | None = Field(None, validation_alias="STONECHAT_SMTP_URL")
    """`smtp://user:password@host:587` (STARTTLS) or `smtps://…:465`. Without it, mail is written to `<data_dir>/mail`."""
    mail_from: str = Field("Stonechat <stonechat@localhost>", validation_alias="STONECHAT_MAIL_FROM")

    @field_validator("secret_keys", "trusted_proxies", "outbound_allowed", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("stripe_secret_key", "stripe_webhook_secret", "stripe_api_base", "metrics_port", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("stripe_api_base")
    @classmethod
    def _is_a_base(cls, url: str | None) -> str | None:
        parts = urlsplit(url) if url else None
        if parts and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username):
            raise ValueError("this is an address such as http://127.0.0.1:12111")
        return url

    @field_validator("secret_keys")
    @classmethod
    def _long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value().encode()) < MIN_SECRET_BYTES for key in keys):
            raise ValueError(f"each key needs at least {MIN_SECRET_BYTES} bytes; `openssl rand -base64 48` makes one")
        return keys

    @field_validator("trusted_proxies", "outbound_allowed")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ip_network(proxy, strict=False)
        return proxies

    @field_validator("configured_public_url")
    @classmethod
    def _is_an_origin(cls, url: str | None) -> str | None:
        parts = urlsplit(url.rstrip("/")) if url else None
        if parts and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query):
            raise ValueError("this is the scheme and host of the platform, such as https://chat.example.com")
        return url

    @field_validator("chatkit_script")
    @classmethod
    def _is_a_script(cls, url: str) -> str:
        # It goes into a policy, where a blank, a comma or a semicolon would end it.
        parts = urlsplit(url)
        plain = re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+/[A-Za-z0-9._~/-]*", url) is not None
        secure = parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1")
        if not plain or not secure or parts.path.endswith("/"):
            raise ValueError("this is the https address of a script, without a query")
        return url

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_a_collector(cls, url: str | None) -> str | None:
        parts = urlsplit(url) if url else None
        if parts and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username):
            raise ValueError("this is the address of a collector, such as http://collector:4318")
        return url or None

    @field_validator("database_url", "configured_direct_database_url", "configured_owner_database_url")
    @classmethod
    def _is_postgres(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in ("postgresql", "postgres"):
            raise ValueError("this starts with postgresql://")
        return url

    @field_validator("configured_files_url")
    @classmethod
    def _is_a_place_for_files(cls, url: str | None) -> str | None:
        if url is not None and "://" in url and not url.startswith(("file://", "s3://")):
            raise ValueError("this is a folder or s3://bucket/prefix")
        return url

    @model_validator(mode="after")
    def _metrics_stay_inside(self) -> Self:
        if self.metrics_port is not None and self.metrics_port == self.port:
            raise ValueError("STONECHAT_METRICS_PORT must not be PORT, which the world reaches")
        return self

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.is_production:
            if not self.secret_keys:
                raise ValueError("STONECHAT_SECRET_KEYS must be set in production")
            if not self.public_url.startswith("https://"):
                raise ValueError("STONECHAT_PUBLIC_URL must start with https:// in production")
            if self.stripe_api_base is not None:
                raise ValueError("STRIPE_API_BASE is for tests, and refused in production")
        return self

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def public_url(self) -> str:
        """The URL the world uses, without a trailing slash."""
        return (self.configured_public_url or f"http://127.0.0.1:{self.port}").rstrip("/")

    @property
    def direct_database_url(self) -> str | None:
        return self.configured_direct_database_url or self.database_url

    @property
    def owner_database_url(self) -> str | None:
        return self.configured_owner_database_url or self.direct_database_url

    @property
    def stripe_webhook_secrets(self) -> tuple[SecretStr, ...]:
        """Each of them signs."""
        given = self.stripe_webhook_secret.get_secret_value() if self.stripe_webhook_secret is not None else ""
        return tuple(SecretStr(part.strip()) for part in given.split(",") if part.strip())

    @property
    def files_url(self) -> str:
        return self.configured_files_url or str(self.data_dir / "files")

    @property
    def sign_up(self) -> Literal["open", "invite", "closed"]:
        """`open`: anyone may make a tenant; `invite`: newcomers need an invitation; `closed`: no new people at all."""
        return self.configured_sign_up or ("invite" if self.is_production else "open")

    @property
    def ip_requests_per_minute(self) -> int:
        return self.configured_ip_requests_per_minute or 600

    @cached_property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(proxy, strict=False) for proxy in self.trusted_proxies)

    @cached_property
    def outbound_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(network, strict=False) for network in self.outbound_allowed)

    def is_set(self, name: str) -> bool:
        """Whether the person running this set the field, rather than taking its default."""
        return name in self.model_fields_set
