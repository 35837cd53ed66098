"""`stonechat export` and `stonechat apply`: a tenant's configuration as a file, over this installation's own database."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import system
from stonechat.accounts.tenants import get_tenant
from stonechat.api.config import means_of
from stonechat.app import open_services
from stonechat.configuration.configuration import apply_configuration, read_configuration
from stonechat.configuration.plan import Applied
from stonechat.configuration.texts import MAX_BYTES, Format, read_document, write_document
from stonechat.errors import InvalidInput, NotFound, StonechatError
from stonechat.settings import Settings

READ_AT_MOST = MAX_BYTES + 1


async def export_here(settings: Settings, tenant_id: UUID, *, form: Format, content: bool) -> str:
    """The tenant's configuration as text."""
    async with open_services(settings) as services, services.database.tenant(tenant_id) as session:
        await _require(session, tenant_id)
        found = await read_configuration(session, system(tenant_id), means=means_of(services), content=content)
    name = found.tenant.name if found.tenant is not None else ""
    head = f"# The configuration of {' '.join(name.split())}. `stonechat apply` takes it; see docs/configuration.md.\n"
    return (head if form == "yaml" else "") + write_document(found, form=form)


async def apply_here(settings: Settings, data: bytes, *, tenant_id: UUID | None, dry_run: bool, prune: bool) -> Applied:
    """Apply a file to the tenant that is given, or else to the one that the file came from."""
    form: Format = "json" if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else "yaml"
    wanted = read_document(data, form=form)
    chosen = tenant_id or (wanted.tenant.id if wanted.tenant is not None else None)
    if chosen is None:
        raise InvalidInput("Say which tenant: --tenant ID. The file names none.")
    async with open_services(settings) as services:
        async with services.database.tenant(chosen) as session:
            await _require(session, chosen)
        return await apply_configuration(
            services.database, system(chosen), means=means_of(services), wanted=wanted, dry_run=dry_run, prune=prune
        )


def report_lines(applied: Applied) -> list[str]:
    """What was done, in words."""
    tense = "Would be done" if applied.dry_run else "Done"
    done = [change.says for change in applied.changes if change.action != "leave"]
    left = [change.says for change in applied.changes if change.action == "leave"]
    lines = [f"{tense}:", *(f"  {says}" for says in done)] if done else ["Nothing changes."]
    lines += [f"  {says}" for says in left]
    lines.append(f"{applied.unchanged} things are as the file says already.")
    if applied.to_do:
        lines += ["For you to do:", *(f"  {item.path}: {item.says}" for item in applied.to_do)]
    return lines


def fault_lines(error: StonechatError) -> list[str]:
    """Where in the file the reasons of an error stand."""
    faults = error.members.get("errors") or []
    return [f"  {fault['field'] or 'file'}: {fault['message']}" for fault in faults]


async def _require(session: AsyncSession, tenant_id: UUID) -> None:
    try:
        await get_tenant(session, system(tenant_id))
    except NotFound:
        raise NotFound(f"There is no tenant {tenant_id}.") from None
