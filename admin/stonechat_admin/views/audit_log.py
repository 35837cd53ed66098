"""`/console/audit-log`: who did what, and when."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from stonechat.accounts.api_keys import list_api_keys
from stonechat.accounts.audit import list_audit
from stonechat.accounts.memberships import list_members
from stonechat.assistant.names import list_agent_names
from stonechat.identity.domain_keys import list_domain_keys
from stonechat_admin.auth import Admin, Console
from stonechat_admin.deeds import NOUNS, tell

router = APIRouter()

ROWS = 50
MAX_NAMES = 100

Choice = Annotated[str, Query(max_length=100)]


@router.get("/console/audit-log")
async def show_audit_log(
    console: Admin, person: Choice = "", about: Choice = "", cursor: Annotated[str, Query(max_length=1000)] = ""
) -> Response:
    page = await list_audit(
        console.session,
        console.actor,
        actor_id=person or None,
        action=about or None,
        limit=ROWS,
        cursor=cursor or None,
    )
    members = await list_members(console.session, console.actor)
    keys = await list_api_keys(console.session, console.actor)
    names = {member.id: member.name or member.email for member in members}
    names |= {key.id: key.name for key in keys}
    people = sorted(names.items(), key=lambda entry: entry[1].casefold())
    names |= await _names_of_things(console)
    chosen = {"person": person, "about": about}
    return (console.fragment if console.is_partial else console.page)(
        "audit_log/_rows.html" if cursor and console.is_partial else "audit_log/page.html",
        entries=[(entry, tell(entry, names)) for entry in page.data],
        more=f"/console/audit-log?{urlencode({**chosen, 'cursor': page.next_cursor})}" if page.next_cursor else None,
        people=people,
        nouns=NOUNS,
        chosen=chosen,
        filtered=bool(person or about),
    )


async def _names_of_things(console: Console) -> dict[str, str]:
    """What the entries' subjects are called, as far as they are still there."""
    agents = await list_agent_names(console.session, console.actor)
    sites = await list_domain_keys(console.session, console.actor, limit=MAX_NAMES)
    return {agent.id: agent.name for agent in agents} | {site.id: site.name for site in sites.data}
