"""What operators are told of a job that failed: whole sentences, nobody's words, and what to do."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from stonechat.operator.jobs import _view

TENANT = uuid4()
LOOK, MEND = "Look into the tenant to read all of it.", "Mend the cause, then try it again."


def told(
    failure: str | None,
    message: str = "",
    *,
    status: str = "failed",
    tenant: UUID | None = TENANT,
    granted: bool = False,
    suspended: bool = False,
) -> str:
    moments = dict.fromkeys(("created_at", "updated_at", "due_at"))
    row = {
        "id": 1,
        "kind": "knowledge.ingest",
        "tenant": str(tenant) if tenant else None,
        "status": status,
        "attempts": 2,
        "failure": failure,
        "message": message,
        "suspended": suspended,
    }
    return _view(row | moments, {TENANT} if granted else ()).problem


@pytest.mark.parametrize(
    ("failure", "message", "sentences"),
    [
        ("GiveUp", "KeyError: the marzipan", f"It failed with KeyError. {LOOK} {MEND}"),
        ("GiveUp", "marzipan", f"It was found that it cannot succeed. {LOOK} {MEND}"),
        ("GiveUp", "marzipan: of the visitor", f"It was found that it cannot succeed. {LOOK} {MEND}"),
        ("GiveUp", "The worker died 3 times while it worked on this.",
         f"The worker died 3 times while it worked on this. Look in its log for what used up the memory. {MEND}"),
        ("ValueError", "marzipan", f"It failed with ValueError. {LOOK} {MEND}"),
    ],
)  # fmt: skip
def test_a_job_that_was_given_up_says_what_to_do(failure: str, message: str, sentences: str) -> None:
    assert told(failure, message) == sentences


def test_a_job_that_is_tried_again_says_so() -> None:
    again = f"It failed with KeyError. {LOOK} It is tried again by itself."
    assert told("RetryRequested", "KeyError: the marzipan", status="queued") == again
    stopped = "The worker stopped meanwhile, which counts for nothing. It is tried again by itself."
    assert told("WorkerStopping", "The worker stopped.", status="queued") == stopped
    assert told(None, status="queued") == ""


def test_a_job_of_a_suspended_tenant_says_what_it_waits_for() -> None:
    waits = "Its tenant is suspended: what spends or reaches out waits until it is opened again."
    assert told(None, status="queued", suspended=True) == waits
    assert told("RetryRequested", "KeyError: x", status="queued", suspended=True).endswith(waits)


def test_under_a_look_all_of_it_is_told_and_without_a_tenant_the_log_is_named() -> None:
    assert told("GiveUp", "KeyError: the marzipan", granted=True) == f"GiveUp: KeyError: the marzipan. {MEND}"
    assert told("GiveUp", "KeyError: x", tenant=None) == f"It failed with KeyError. The worker’s log says more. {MEND}"
