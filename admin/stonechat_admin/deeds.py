"""The audit log's entries as sentences: what somebody did, to what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stonechat.accounts.audit import AuditView

NOUNS = {
    "agent": "Agents",
    "document": "Documents",
    "source": "Sources of knowledge",
    "knowledge": "The search",
    "unanswered": "Unanswered questions",
    "domain_key": "Keys of web sites",
    "identity_key": "Identity keys",
    "model_provider": "Model providers",
    "secret": "Secrets",
    "limits": "Limits",
    "webhook_endpoint": "Webhooks",
    "webhook_delivery": "What webhooks sent",
    "conversation": "Conversations",
    "user": "Visitors",
    "configuration": "The whole configuration",
    "member": "Members",
    "invitation": "Invitations",
    "api_key": "API keys",
    "usage": "Usage and budget",
    "tenant": "The account",
    "plan": "The plan",
    "billing": "Paying for the plan",
    "invoice": "Invoices",
    "subscription": "The subscription",
    "support": "Looks by operators",
}
"""What an action's first word stands for, in the filter."""

_FIELDS = {
    "name": "the name",
    "instructions": "the instructions",
    "model": "the model",
    "greeting": "the greeting",
    "prompts": "the suggested questions",
    "disclaimer": "the line under the composer",
    "placeholder": "the composer’s hint",
    "theme": "the look",
    "launcher": "the button",
    "renderer": "which chat is drawn",
    "knowledge": "the use of knowledge",
    "feedback": "the thumbs",
    "tools": "the abilities",
    "ask": "asking by forms",
    "hand_over": "handing over to a person",
    "guardrails": "the rules",
    "attachments": "the files",
    "dictation": "speaking",
    "reasoning": "thinking first",
    "history": "long conversations",
    "titles": "the titles",
    "fallback_models": "the models to fall back on",
    "model_choices": "the models to choose from",
    "temperature": "the creativity",
    "max_output_tokens": "the longest answer",
    "origins": "the web sites",
    "environment": "the environment",
    "openai_domain_key": "the OpenAI domain key",
    "url": "the address",
    "description": "what it is for",
    "events": "the kinds of events",
    "enabled": "whether it is on",
}

Sentence = Callable[[str, Mapping[str, Any]], str]
"""From the subject, named, and the entry's detail to what was done, without the one who did it."""


def _sized(detail: Mapping[str, Any]) -> str:
    size = detail.get("bytes")
    if not isinstance(size, int):
        return ""
    return f" of {size / 1_000_000:.1f} MB" if size >= 1_000_000 else f" of {max(1, size // 1000)} KB"


def _fields(detail: Mapping[str, Any]) -> str:
    names = [_FIELDS.get(str(name), str(name).replace("_", " ")) for name in detail.get("fields", ())]
    return f": {', '.join(names)}" if names else ""


def _because(detail: Mapping[str, Any]) -> str:
    return f": “{detail['reason']}”" if detail.get("reason") else ""


def _scopes(detail: Mapping[str, Any]) -> str:
    scopes = detail.get("scopes", ())
    return "do everything" if "admin" in scopes else "change things" if "write" in scopes else "look"


def _number(of: Any, what: str) -> str:
    return f"{of:,} {what}{'' if of == 1 else 's'}" if isinstance(of, int) else f"{what}s"


def _quoted(detail: Mapping[str, Any], otherwise: str) -> str:
    return f"“{detail['name']}”" if detail.get("name") else otherwise


_SENTENCES: dict[str, Sentence] = {
    "agent.create": lambda it, _: f"made the agent {it}",
    "agent.edit": lambda it, detail: f"edited the draft of the agent {it}{_fields(detail)}",
    "agent.publish": lambda it, detail: f"published version {detail.get('version', '?')} of the agent {it}",
    "agent.archive": lambda it, _: f"retired the agent {it}",
    "agent.restore": lambda it, _: f"brought the agent {it} back",
    "agent.delete": lambda _it, _: "deleted an agent",
    "document.create": lambda _it, detail: f"added a document{_sized(detail)}",
    "document.delete": lambda _it, _: "deleted a document",
    "document.cancel": lambda _it, _: "stopped the reading of a document",
    "document.tag": lambda _it, _: "changed the tags of a document",
    "document.reprocess": lambda _it, _: "had a document read again",
    "source.create": lambda _it, _: "added a source of knowledge",
    "source.update": lambda _it, _: "changed a source of knowledge",
    "source.sync": lambda _it, _: "had a web site fetched again",
    "source.cancel": lambda _it, _: "stopped the fetching of a web site",
    "knowledge.settings": lambda _it, _: "changed how documents are searched",
    "unanswered.answer": lambda _it, _: "answered a question that went unanswered",
    "unanswered.dismiss": lambda _it, _: "dismissed a question that went unanswered",
    "unanswered.reopen": lambda _it, _: "opened an unanswered question again",
    "source.delete": lambda _it, _: "deleted a source of knowledge",
    "domain_key.create": lambda it, _: f"made a key for web sites, {it}",
    "domain_key.patch": lambda it, detail: f"changed the key for web sites {it}{_fields(detail)}",
    "domain_key.revoke": lambda _it, _: "revoked a key for web sites",
    "identity_key.create": lambda _it, detail: (
        "made a shared secret for signing in visitors"
        if detail.get("kind") == "hs256"
        else "added a public key for signing in visitors"
    ),
    "identity_key.retire": lambda _it, _: "retired an identity key",
    "model_provider.create": lambda it, detail: f"added the model provider {_quoted(detail, it)}",
    "model_provider.change_key": lambda _it, _: "replaced the key of a model provider",
    "model_provider.delete": lambda it, detail: f"deleted the model provider {_quoted(detail, it)}",
    "secret.put": lambda _it, detail: f"set the secret {_quoted(detail, 'that is gone')}",
    "secret.delete": lambda _it, detail: f"deleted the secret {_quoted(detail, 'that is gone')}",
    "limits.put": lambda _it, detail: _limits(detail),
    "webhook_endpoint.create": lambda _it, _: "added a webhook endpoint",
    "webhook_endpoint.change": lambda _it, detail: (
        f"switched a webhook endpoint {'on' if detail['enabled'] else 'off'}"
        if detail.get("fields") == ["enabled"] and "enabled" in detail
        else f"changed a webhook endpoint{_fields(detail)}"
    ),
    "webhook_endpoint.rotate_secret": lambda _it, _: "made a new secret for a webhook endpoint",
    "webhook_endpoint.test": lambda _it, _: "sent a test to a webhook endpoint",
    "webhook_endpoint.replay": lambda _it, detail: (
        f"had {_number(detail.get('deliveries'), 'failed webhook')} sent again"
    ),
    "webhook_endpoint.disable": lambda _it, detail: (
        "switched a webhook endpoint off: it answered that it is gone"
        if detail.get("reason") == "gone"
        else "switched a webhook endpoint off: it only failed for days"
    ),
    "webhook_endpoint.delete": lambda _it, _: "deleted a webhook endpoint",
    "webhook_delivery.replay": lambda _it, _: "had a webhook sent again",
    "conversation.take_over": lambda _it, _: "took a conversation over from the agent",
    "conversation.give_back": lambda _it, _: "gave a conversation back to the agent",
    "conversation.reply": lambda _it, _: "answered in a conversation",
    "conversation.resolve": lambda _it, _: "called a conversation resolved",
    "conversation.lock": lambda _it, detail: f"locked a conversation{_because(detail)}",
    "conversation.close": lambda _it, detail: f"closed a conversation{_because(detail)}",
    "conversation.reopen": lambda _it, _: "opened a conversation again",
    "usage.put_budget": lambda _it, _: "changed the monthly budget",
    "usage.put_prices": lambda _it, _: "changed the prices of models",
    "conversation.delete": lambda _it, _: "deleted a conversation",
    "configuration.apply": lambda _it, _: "applied a whole configuration",
    "user.export": lambda _it, _: "took away what is kept of a visitor",
    "user.erase": lambda _it, _: "erased a visitor",
    "member.add": lambda it, detail: f"made {it} a member, as {detail.get('role', 'viewer')}",
    "member.change_role": lambda it, detail: (
        f"changed the role of {it} from {detail.get('from', '?')} to {detail.get('to', '?')}"
    ),
    "member.remove": lambda it, detail: f"ended the membership of {it}, who was {detail.get('role', 'a member')}",
    "invitation.create": lambda _it, detail: (
        f"invited {detail.get('email', 'somebody')}, as {detail.get('role', 'viewer')}"
    ),
    "invitation.accept": lambda _it, detail: f"accepted an invitation, as {detail.get('role', 'viewer')}",
    "invitation.revoke": lambda _it, detail: f"withdrew the invitation to {detail.get('email', 'somebody')}",
    "api_key.create": lambda it, detail: f"made the API key {_quoted(detail, it)}, which may {_scopes(detail)}",
    "api_key.revoke": lambda it, detail: f"revoked the API key {_quoted(detail, it)}",
    "tenant.create": lambda _it, _: "opened the account",
    "plan.assign": lambda _it, detail: (
        f"put the account on the plan {detail.get('plan', 'of its own')}{_because(detail)}"
    ),
    "invoice.mark_paid": lambda _it, _: "noted that an invoice was paid",
    "invoice.void": lambda _it, _: "took an invoice back",
    "subscription.change": lambda _it, _: "changed the subscription",
    "usage.put_steps": lambda _it, _: "chose what happens when nothing more is included",
    "usage.put_overage": lambda _it, _: "chose whether to pay for more than is included",
    "conversation.expire": lambda _it, _: "let old conversations go, as the plan says",
    "conversation.announce_expiry": lambda _it, _: "told that old conversations will go",
    "tenant.suspend": lambda _it, detail: f"suspended the account{_because(detail)}",
    "tenant.resume": lambda _it, detail: f"opened the account again{_because(detail)}",
    "tenant.plan_deletion": lambda _it, detail: f"planned the deletion of the account{_because(detail)}",
    "tenant.call_off_deletion": lambda _it, _: "called the deletion of the account off",
    "plan.override": lambda _it, detail: f"made an exception from the plan{_because(detail)}",
    "plan.revoke_override": lambda _it, _: "ended an exception from the plan",
    "support.ask": lambda _it, detail: f"asked to look in here{_because(detail)}",
    "support.open": lambda _it, detail: f"began to look in here{_because(detail)}",
    "support.agree": lambda _it, _: "let an operator look in here",
    "support.view": lambda _it, detail: f"looked at {detail.get('page', 'a page')}",
    "support.end": lambda _it, _: "ended an operator’s look",
    "support.rule": lambda _it, detail: (
        "demanded that operators ask first" if detail.get("consent_needed") else "let operators look without asking"
    ),
    "tenant.rename": lambda _it, detail: f"renamed the account to {_quoted(detail, 'something else')}",
}


def _limits(detail: Mapping[str, Any]) -> str:
    try:
        visitor, agent, tenant = (detail[who]["messages_per_minute"] for who in ("visitor", "agent", "tenant"))
    except (KeyError, TypeError):
        return "changed the limits"
    return f"set the limits to {visitor} messages a minute for a visitor, {agent} for an agent, {tenant} in all"


def tell(entry: AuditView, names: Mapping[str, str]) -> tuple[str, str]:
    """Who, and what they did. `names` says what subjects are called that are still there."""
    who = {"system": "Stonechat", "operator": "Whoever runs this installation"}.get(entry.actor_kind)
    if who is None:
        gone = "An API key that is gone" if entry.actor_kind == "api_key" else "Somebody who left"
        who = entry.actor_name or gone
    named = names.get(entry.subject_id or "")
    noun, _, verb = entry.action.partition(".")
    it = f"“{named}”" if named else "that is gone"
    if named and noun == "member":
        it = named
    elif noun == "member":
        it = "somebody who left"
    sentence = _SENTENCES.get(entry.action)
    if sentence is None:  # an action that is newer than this list
        return who, f"{verb.replace('_', ' ')}: {noun.replace('_', ' ')}"
    return who, sentence(it, entry.detail)
