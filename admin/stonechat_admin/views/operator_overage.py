"""`/operator/tenants/{id}/overage`: what came too late for its invoice, and what was decided about it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response

from stonechat.billing.settling import list_late, list_settlements
from stonechat.operator.late_overage import decide_overage
from stonechat.operator.tenant import require_tenant
from stonechat.plans.words import money, value_in_words
from stonechat_admin.forms import Filled
from stonechat_admin.operator_auth import AtDesk
from stonechat_admin.operator_pages import tenant_of

router = APIRouter()

PATH = "/operator/tenants/{tenant_id}/overage"
Text = Annotated[str, Form(max_length=5000)]
Word = Annotated[str, Form(max_length=20)]
STATE_WORDS = {
    "waiting": ("waits for Stripe", "warning"),
    "told": ("on the next invoice", "info"),
    "invoiced": ("on an invoice", "success"),
    "waived": ("waived", "neutral"),
    "refused": ("refused by Stripe", "error"),
}
BUTTONS = {"invoice": "Put on the next invoice", "waive": "Waive"}
TOASTS = {
    "invoice": "It is on its way to Stripe; the next invoice takes it.",
    "waive": "Waived. It is on no invoice, for good.",
}


@router.get(PATH)
async def show_overage(tenant_id: str, desk: AtDesk) -> Response:
    tenant = await require_tenant(desk.session, tenant_of(tenant_id))
    late = await list_late(desk.session, tenant.tenant_id)
    values: dict[str, Any] = {
        "late": late,
        "tokens": sum(one.tokens for one in late),
        "priced": any(one.price.micros_per_1k_tokens is not None for one in late),
        "by_stripe": desk.services.billing.gateway is not None,
        "settlements": await list_settlements(desk.session, tenant.tenant_id),
        "words": STATE_WORDS,
        "money": money,
        "price_in_words": lambda micros, currency: value_in_words("overage_micros_per_1k_tokens", micros, currency),
        "form": Filled({"reason": ""}),
        "buttons": BUTTONS,
    }
    return desk.page("operator/tenants/overage.html", tenant=tenant, tenant_id=tenant.tenant_id, **values)


@router.post(PATH)
async def decide(tenant_id: str, desk: AtDesk, how: Word = "", reason: Text = "") -> Response:
    tenant = await require_tenant(desk.session, tenant_of(tenant_id))
    services = desk.services
    deed = decide_overage(
        desk.session,
        desk.operator,
        tenant.tenant_id,
        database=services.database,
        billing=services.billing,
        how=how,
        reason=reason,
    )
    how = how if how in TOASTS else "waive"
    return await desk.take(
        deed,
        form="operator/tenants/_overage_form.html",
        typed={"reason": reason},
        back=f"/operator/tenants/{tenant.tenant_id}/overage",
        toast=TOASTS[how],
        tenant_id=tenant.tenant_id,
        how=how,
        buttons=BUTTONS,
    )
