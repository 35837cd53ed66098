"""The job queue: pgqueuer in Postgres (schema `jobs`), wrapped where it would lose, repeat or starve work.

`enqueue` in the transaction that needs the work; a `JobRunner` in the worker calls the handler of its kind. A handler
calls one verb, and running it twice changes nothing: a job runs *at least* once.
"""

from stonechat.jobs.attempts import GiveUp, GiveUpHook, Handler
from stonechat.jobs.queue import enqueue, forget_jobs, pending_count
from stonechat.jobs.runner import JobRunner

__all__ = ["GiveUp", "GiveUpHook", "Handler", "JobRunner", "enqueue", "forget_jobs", "pending_count"]
