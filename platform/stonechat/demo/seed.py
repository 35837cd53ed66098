"""Load the demo: two tenants, one person who belongs to both, their agents, documents and domain keys.

Every step looks first, so that running it again, or after half of it failed, ends in the same state. A document that
changed with a new version of Stonechat is replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts import api_keys, people, tenants
from stonechat.accounts.actor import Actor, system
from stonechat.assistant import agents
from stonechat.db.session import Database
from stonechat.demo.tenants import DEMO_TENANTS, DemoTenant
from stonechat.errors import Forbidden, NotFound, Unavailable
from stonechat.files import FileStore
from stonechat.identity import domain_keys
from stonechat.identity.domain_keys import NewDomainKey
from stonechat.knowledge import service as knowledge
from stonechat.settings import Settings

OWNER_EMAIL = "maud@alderandloom.example"
OWNER_NAME = "Maud Holroyd"
KEY_NAME = "Demo page"
READY_SECONDS = 120
_TENANT_IDS = {
    "shop": UUID("01930000-0000-7000-8000-00000000a1de"),
    "docs": UUID("01930000-0000-7000-8000-00000000d0c5"),
}


@dataclass(frozen=True)
class Demo:
    """What a person needs to look around. Kept in the data folder, readable by its owner only."""

    email: str
    password: str
    api_keys: dict[str, str]
    domain_keys: dict[str, str]


async def seed_demo(settings: Settings, database: Database, files: FileStore) -> Demo:
    """Make what is missing and queue the documents for reading. Refused in production."""
    if settings.is_production:
        raise Forbidden("The demo is not for production.")
    notes = settings.data_dir / "demo.json"
    known = _read(notes)
    secrets_of: dict[str, str] = dict(known.api_keys) if known else {}
    public: dict[str, str] = {}
    for demo in DEMO_TENANTS:
        tenant_id = _TENANT_IDS[demo.name]
        made = await _ensure_tenant(database, tenant_id, demo)
        actor = system(tenant_id)
        async with database.tenant(tenant_id) as session:
            public[demo.name] = await _ensure_agent(session, actor, demo, settings)
            await _ensure_documents(session, actor, demo, settings=settings, files=files)
            if made or demo.name not in secrets_of:
                _, secret = await api_keys.create_api_key(session, actor, name=KEY_NAME, scopes=["admin"])
                secrets_of[demo.name] = secret
    password = known.password if known else secrets.token_urlsafe(9)
    if known is None:
        async with database.directory() as session:
            person, _ = await people.find_or_create_person(session, email=OWNER_EMAIL)
        await people.set_password(database, person.person_id, password=password)
    result = Demo(OWNER_EMAIL, password, secrets_of, public)
    if result != known:
        notes.parent.mkdir(parents=True, exist_ok=True)
        notes.touch(mode=0o600)
        notes.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    return result


async def wait_until_read(database: Database) -> None:
    """Until no document of the demo waits to be read. Raises `Unavailable` after `READY_SECONDS`."""
    for tenant_id in _TENANT_IDS.values():
        for _ in range(READY_SECONDS * 10):
            async with database.tenant(tenant_id) as session:
                actor = system(tenant_id)
                waiting, _ = await knowledge.list_documents(session, actor, status="pending", limit=1)
                reading, _ = await knowledge.list_documents(session, actor, status="processing", limit=1)
            if not waiting and not reading:
                break
            await asyncio.sleep(0.1)
        else:
            raise Unavailable("The demo's documents are still being read. Is a worker running?")


def _read(notes: Path) -> Demo | None:
    try:
        return Demo(**json.loads(notes.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


async def _ensure_tenant(database: Database, tenant_id: UUID, demo: DemoTenant) -> bool:
    async with database.tenant(tenant_id) as session:
        try:
            await tenants.get_tenant(session, system(tenant_id))
            return False
        except NotFound:
            pass
    await tenants.create_tenant(
        database, name=demo.company, owner_email=OWNER_EMAIL, owner_name=OWNER_NAME, tenant_id=tenant_id
    )
    return True


async def _ensure_agent(session: AsyncSession, actor: Actor, demo: DemoTenant, settings: Settings) -> str:
    """The agent as this version of the demo wants it, published, and its domain key."""
    listed = (await agents.list_agents(session, actor, limit=1)).data
    if listed:
        agent = listed[0]
    else:
        agent = await agents.create_agent(session, actor, config=demo.config)
        await agents.publish_agent(session, actor, agent_id=agent.id, settings=settings)
    keys = (await domain_keys.list_domain_keys(session, actor, agent_id=agent.id, limit=100)).data
    wanted = [settings.public_url]
    for key in keys:
        if key.name == KEY_NAME:
            if key.origins != wanted:
                patch = domain_keys.DomainKeyPatch(origins=wanted)
                await domain_keys.patch_domain_key(session, actor, agent_id=agent.id, domain_key_id=key.id, patch=patch)
            return key.key
    new = NewDomainKey(name=KEY_NAME, environment="development", origins=wanted)
    return (await domain_keys.create_domain_key(session, actor, agent_id=agent.id, new=new)).key


async def _ensure_documents(
    session: AsyncSession, actor: Actor, demo: DemoTenant, *, settings: Settings, files: FileStore
) -> None:
    stored, _ = await knowledge.list_documents(session, actor, limit=100)
    known = {document.url: document for document in stored}
    for document in demo.documents():
        url = settings.public_url + document.url
        data = document.path.read_bytes()
        present = known.pop(url, None)
        if present is not None:
            if present.sha256 == hashlib.sha256(data).digest() and present.status != "failed":
                continue
            await knowledge.delete_document(session, actor, document_id=present.document_id)
        await knowledge.create_document(
            session, actor, files=files, data=data, filename=document.path.name, title=document.title, url=url
        )
