"""Frames that may load OpenAI's front end, preflights of its requests, and what is counted where it does not come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.embed.stock import recent_stock_troubles
from stonechat.identity.domain_keys import DomainKeyView, NewDomainKey, create_domain_key
from stonechat.settings import Settings
from support.platform import ORIGIN, Platform, open_platform
from support.postgres import TestDatabase

CDN = "https://cdn.platform.openai.com"


async def key_of(platform: Platform, agent: str, openai: str | None = "domain_pk_1") -> DomainKeyView:
    async with platform.services.database.tenant(platform.tenant_id) as session:
        new = NewDomainKey(name="Shop", origins=[ORIGIN], openai_domain_key=openai)
        return await create_domain_key(session, system(platform.tenant_id), agent_id=agent, new=new)


async def test_frames_reports_and_preflights(test_database: TestDatabase, tmp_path: Path) -> None:
    async with open_platform(test_database, tmp_path) as platform:
        chosen = await platform.agent(renderer="chatkit", dictation={"enabled": True})
        key, keyless = await key_of(platform, chosen), await key_of(platform, chosen, None)
        plain = await key_of(platform, await platform.agent())

        # Only the frame of an agent that chose it, under a key that has what it needs, may load anything of OpenAI's.
        frame = await platform.http.get("/embed/frame", params={"k": key.key})
        policy = frame.headers["content-security-policy"].split("; ")
        assert policy[1].endswith(f" {CDN}/deployments/chatkit/")
        assert f"frame-src {CDN}" in policy
        assert "connect-src 'self'" in policy
        assert f"frame-ancestors {ORIGIN}" in policy
        assert frame.headers["cross-origin-embedder-policy"] == "unsafe-none"
        assert f'microphone=(self "{CDN}")' in frame.headers["permissions-policy"]
        assert '"domain_key":"domain_pk_1"' in frame.text
        # Nor a page of the platform's own site, which a visitor opens by a link: scripts there would reach the console.
        for strict, dest in ((keyless, "iframe"), (plain, "iframe"), (key, "document")):
            headers = {"Sec-Fetch-Dest": dest}
            other = await platform.http.get("/embed/frame", params={"k": strict.key}, headers=headers)
            assert "openai" not in other.text + str(other.headers)
            assert "require-trusted-types-for 'script'" in other.headers["content-security-policy"]

        # Of one visitor a report counts once in ten minutes; previews, strangers and nonsense count nothing.
        visitor = platform.visitor(chosen)
        caller = replace(visitor.caller, domain_key_id=key.id)

        async def report(who: object, reason: str = "timeout") -> int:
            token, _ = platform.services.session_tokens.mint(who)  # type: ignore[arg-type]
            headers = {"Authorization": f"Bearer {token}", "Origin": ORIGIN}
            return (
                await platform.http.post("/embed/stock-trouble", json={"reason": reason}, headers=headers)
            ).status_code

        assert [await report(caller), await report(caller, "refused")] == [204, 204]
        assert await report(replace(caller, user_id="usr_other"), "refused") == 204
        assert await report(replace(caller, user_id="usr_previewing", domain_key_id=None)) == 204
        assert await report(caller, "whatever") == 422
        assert (await platform.http.post("/embed/stock-trouble", json={"reason": "error"})).status_code == 401
        async with platform.services.database.tenant(platform.tenant_id) as session:
            # What is older than a week is not told.
            await session.execute(
                text(
                    "insert into stock_troubles (tenant_id, domain_key_id, day, reason, times, last_at) "
                    "values (:tenant, :key, :day, 'error', 9, now())"
                ),
                {"tenant": platform.tenant_id, "key": key.id, "day": clock.now().date() - timedelta(days=8)},
            )
            found = await recent_stock_troubles(
                session, system(platform.tenant_id), domain_key_ids=[key.id, keyless.id]
            )
        assert set(found) == {key.id}
        assert (found[key.id].times, found[key.id].reasons) == (2, {"timeout", "refused"})

        # OpenAI's front end adds headers of its own to what it asks; others are not let in with them.
        asked = "authorization,content-type,chatkit-frame-instance-id,x-evil"
        preflight = await platform.http.options(
            "/chatkit",
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": asked,
            },
        )
        allowed = preflight.headers["access-control-allow-headers"].lower()
        assert preflight.status_code == 204
        assert "chatkit-frame-instance-id" in allowed
        assert "x-evil" not in allowed


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.example/x.js",
        "https://cdn.example/x.js; script-src *",
        "https://cdn.example/",
        "https://cdn.example/x.js?y",
        "//cdn.example/x.js",
        "https://a@cdn.example/x.js",
    ],
)
def test_an_address_that_would_loosen_the_policy_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(chatkit_script=url)  # type: ignore[call-arg]
