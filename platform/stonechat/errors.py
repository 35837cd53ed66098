"""Everything that can go wrong in a way that a caller should know about.

    StonechatError
      BadRequest            400   MalformedBody, InvalidCursor, WebhookRefused
      Unauthenticated       401   InvalidSession, InvalidUserToken, InvalidApiKey, InvalidTicket, SignInNeeded,
                              OperatorSignInNeeded, SignInRefused
      PaymentDeclined       402
      Forbidden             403   OriginNotAllowed, ScopeMissing, RoleTooLow, TargetNotAllowed,
                              ForgedRequest, InvalidLink, PlanLimitReached, FeatureNotInPlan, TenantSuspended
      NotFound              404   UnknownDomainKey
      MethodNotAllowed      405
      Conflict              409   AgentNotPublished, ThreadBusy, ThreadLocked, AlreadyExists, IdempotencyKeyReused, EditConflict,
                              WrongItem, NotOffered, AttachmentNotUploaded, AttachmentAlreadyUploaded, StorageFull,
                              TooManySources, BudgetUsedUp, BillingOff
      UploadTooSlow         408
      PayloadTooLarge       413   AudioTooLarge
      UnsupportedMediaType  415
      InvalidInput          422   DocumentUnreadable, ModelUnknown, UploadIncomplete, TooManyFiles,
                              ImageUnreadable, ImageTooLarge
        DocumentUnreadable        DocumentEmpty, DocumentEncrypted, DocumentWithoutText, DocumentTooDemanding
      TooManyRequests       429   RateLimited, TooManyConcurrent, TooManyAttempts
      Unavailable           503   UpstreamFailed (502), UpstreamTimedOut (504), EmbeddedPostgresFailed,
                              AnswerTooLong, ProviderResting, EmbeddingFailed, SwitchedOff
      SecretUnreadable      500

An error names a fact, carries an HTTP status and a stable `code` (the machine's word, listed in docs/errors.md), and says
in one sentence (`detail`, the person's word) what happened and what to do next. It renders as an RFC 9457 problem in the
API, as a toast or a page in the console, and as an error event in a stream. Details never hold another tenant's data:
a row of another tenant is *not found*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class StonechatError(Exception):
    """Base of every error with a public face. Subclasses set `status`, `code` and `title`."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        """`detail` is a sentence for people; `members` are extra, JSON-serialisable members of the problem."""
        super().__init__(detail or self.title)
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def problem(self) -> dict[str, Any]:
        """This error as an RFC 9457 problem document."""
        document: dict[str, Any] = {
            "type": f"urn:stonechat:error:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
        }
        if self.detail:
            document["detail"] = self.detail
        return document | self.members


class BadRequest(StonechatError):
    status, code, title = 400, "bad_request", "The request could not be understood"


class MalformedBody(BadRequest):
    code, title = "malformed_body", "The request body is not what this address expects"


class InvalidCursor(BadRequest):
    code, title = "invalid_cursor", "The cursor is not one that this list handed out"


class WebhookRefused(BadRequest):
    code, title = "webhook_refused", "This message is not signed as it should be, or too old"


class Unauthenticated(StonechatError):
    status, code, title = 401, "unauthenticated", "This request needs credentials"


class InvalidSession(Unauthenticated):
    code, title = "invalid_session", "The session token is missing, expired or not ours"


class InvalidUserToken(Unauthenticated):
    code, title = "invalid_user_token", "The signed user token was refused"


class InvalidApiKey(Unauthenticated):
    code, title = "invalid_api_key", "The API key is missing, revoked or unknown"


class InvalidTicket(Unauthenticated):
    code, title = "invalid_ticket", "The frame ticket is missing, expired or not ours"


class SignInNeeded(Unauthenticated):
    code, title = "sign_in_needed", "Sign in to see this page"


class OperatorSignInNeeded(Unauthenticated):
    code, title = "operator_sign_in_needed", "Sign in as an operator to see this page"


class SignInRefused(Unauthenticated):
    code, title = "sign_in_refused", "The e-mail address or the password is wrong"


class PaymentDeclined(StonechatError):
    status, code, title = 402, "payment_declined", "The payment did not go through"


class Forbidden(StonechatError):
    status, code, title = 403, "forbidden", "This is not allowed"


class OriginNotAllowed(Forbidden):
    code, title = "origin_not_allowed", "This site is not on the domain key's list of origins"


class ScopeMissing(Forbidden):
    code, title = "scope_missing", "This API key was not given the scope that the request needs"


class RoleTooLow(Forbidden):
    code, title = "role_too_low", "Your role does not include this action"


class TargetNotAllowed(Forbidden):
    code, title = "target_not_allowed", "Requests to this address are not allowed"


class ForgedRequest(Forbidden):
    code, title = "forged_request", "This form was not sent from a page of the console"


class InvalidLink(Forbidden):
    code, title = "invalid_link", "This link is not valid, or not any more"


class TenantSuspended(Forbidden):
    code, title = "tenant_suspended", "This is paused at the moment"


class PlanLimitReached(Forbidden):
    """`limit` names the bound, `included` is what the plan holds and `used` what there is."""

    code, title = "plan_limit", "The plan has no room for this"


class FeatureNotInPlan(Forbidden):
    """`feature` names what the plan lacks."""

    code, title = "plan_feature", "The plan does not include this"


class NotFound(StonechatError):
    status, code, title = 404, "not_found", "There is nothing here by that name"


class UnknownDomainKey(NotFound):
    code, title = "unknown_domain_key", "This domain key does not exist or was revoked"


class MethodNotAllowed(StonechatError):
    status, code, title = 405, "method_not_allowed", "This address does not answer to that method"


class Conflict(StonechatError):
    status, code, title = 409, "conflict", "The request does not fit the present state"


class AgentNotPublished(Conflict):
    code, title = "agent_not_published", "This agent has not been published yet"


class ThreadBusy(Conflict):
    code, title = "thread_busy", "The assistant is still answering in this conversation"


class ThreadLocked(Conflict):
    code, title = "thread_locked", "This conversation does not take new messages"


class AlreadyExists(Conflict):
    code, title = "already_exists", "There is already one by that name"


class EditConflict(Conflict):
    code, title = "edit_conflict", "Someone else changed this in the meantime"


class WrongItem(Conflict, ValueError):
    """A ValueError too, which is what the ChatKit SDK raises for it."""

    code, title = "wrong_item", "This cannot be done with that item of the conversation"


class NotOffered(Conflict, RuntimeError):
    """A RuntimeError too, which is what the ChatKit SDK raises for it."""

    code, title = "not_offered", "This assistant does not offer that"


class BudgetUsedUp(Conflict):
    code, title = "budget_used_up", "No more can be used this month"


class BillingOff(Conflict):
    code, title = "billing_off", "Plans are not changed this way here"


class AttachmentNotUploaded(Conflict):
    code, title = "attachment_not_uploaded", "This file has not been uploaded yet"


class AttachmentAlreadyUploaded(Conflict):
    code, title = "attachment_already_uploaded", "This file was uploaded already"


class StorageFull(Conflict):
    code, title = "storage_full", "There is no room for more files"


class TooManySources(Conflict):
    code, title = "too_many_sources", "There is no room for another source"


class IdempotencyKeyReused(Conflict):
    code, title = "idempotency_key_reused", "This Idempotency-Key was used before with a different request"


class PayloadTooLarge(StonechatError):
    status, code, title = 413, "payload_too_large", "The request is larger than this address takes"


class UploadTooSlow(StonechatError):
    status, code, title = 408, "upload_too_slow", "The file did not arrive in time"


class AudioTooLarge(PayloadTooLarge):
    code, title = "audio_too_large", "The recording is larger than this address takes"


class UnsupportedMediaType(StonechatError):
    status, code, title = 415, "unsupported_media_type", "This kind of content is not taken here"


class InvalidInput(StonechatError):
    """`errors=[{"field": "a.b", "message": "…"}]` names each field at fault."""

    status, code, title = 422, "invalid_input", "Some of the values are not valid"


class DocumentUnreadable(InvalidInput):
    code, title = "document_unreadable", "No text could be read from this document"


class DocumentEmpty(DocumentUnreadable):
    code, title = "document_empty", "This document is empty"


class DocumentEncrypted(DocumentUnreadable):
    code, title = "document_encrypted", "This document is protected by a password"


class DocumentWithoutText(DocumentUnreadable):
    code, title = "document_without_text", "This document holds no text"


class DocumentTooDemanding(DocumentUnreadable):
    code, title = "document_too_demanding", "Reading this document took more time or memory than we allow"


class UploadIncomplete(InvalidInput):
    code, title = "upload_incomplete", "The file arrived with fewer bytes than were announced"


class TooManyFiles(InvalidInput):
    code, title = "too_many_files", "These are too many files"


class ImageUnreadable(InvalidInput):
    code, title = "image_unreadable", "This picture is damaged, or is none"


class ImageTooLarge(InvalidInput):
    code, title = "image_too_large", "This picture has too many pixels"


class ModelUnknown(InvalidInput):
    code, title = "model_unknown", "There is no such model here"


class TooManyRequests(StonechatError):
    status, code, title = 429, "too_many_requests", "Too many requests"


class RateLimited(TooManyRequests):
    code, title = "rate_limited", "Too many requests in a short time"


class TooManyConcurrent(TooManyRequests):
    code, title = "too_many_concurrent", "Too much is going on at once"


class TooManyAttempts(TooManyRequests):
    code, title = "too_many_attempts", "Too many failed attempts to sign in"


class Unavailable(StonechatError):
    status, code, title = 503, "unavailable", "This part of the service cannot answer right now"


class UpstreamFailed(Unavailable):
    status, code, title = 502, "upstream_failed", "A service that we depend on failed"


class UpstreamTimedOut(Unavailable):
    status, code, title = 504, "upstream_timed_out", "A service that we depend on did not answer in time"


class EmbeddedPostgresFailed(Unavailable):
    code, title = "embedded_postgres_failed", "The embedded Postgres cannot be used"


class AnswerTooLong(Unavailable):
    code, title = "answer_too_long", "The answer grew too long and was cut off"


class ProviderResting(Unavailable):
    code, title = "provider_resting", "This model provider failed several times and is left alone for a while"


class EmbeddingFailed(Unavailable):
    code, title = "embedding_failed", "The embedding model did not answer as it should"


class SwitchedOff(Unavailable):
    code, title = "switched_off", "This part of the platform is switched off for now"


class SecretUnreadable(StonechatError):
    status, code, title = 500, "secret_unreadable", "A stored secret cannot be decrypted"


def all_errors() -> Iterator[type[StonechatError]]:
    """Every error class, parents first."""
    pending: list[type[StonechatError]] = [StonechatError]
    while pending:
        error = pending.pop(0)
        yield error
        pending.extend(error.__subclasses__())
