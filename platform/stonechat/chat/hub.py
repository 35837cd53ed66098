"""`RunHub`: every run of this process, from its claim on the thread to its last byte in the database.

Runs are tasks of their own: a connection that goes away takes nothing with it. One clock writes all of them down, a
single transaction every `TICK_SECONDS` however many there are, so that a crash costs at most a quarter of a second of
text and no database connection waits for a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast
from uuid import UUID

import asyncpg
from chatkit.types import ThreadStreamEvent

from stonechat import ids, metrics
from stonechat.assistant.trace import Outcome, TurnTrace
from stonechat.chat import journal
from stonechat.chat.failures import error_event, failure
from stonechat.chat.journal import Batch, ItemChange
from stonechat.chat.runs import Run
from stonechat.chat.settlement import count_end, entries_of, uses_to_note
from stonechat.chat.trace_log import TraceLog
from stonechat.db.session import Database
from stonechat.errors import StonechatError, TooManyConcurrent

TICK_SECONDS = 0.08
STORE_AFTER_SECONDS = 0.06
"""A frame is written at the first tick after it is this old: 0.14 s at most, and the write itself."""
RENEW_AFTER_SECONDS = 1.0
RUN_SECONDS = 600.0
MAX_RUNS = 5000
KEEP_SECONDS = 60.0
KEEP_BYTES = 64 << 20
CHECKPOINT_RUNS = 100
CHECKPOINT_BYTES = 4 << 20
BREATHE_EVERY = 64
"""Events after which a model that never waits lets others go on."""
FINISH_ATTEMPTS = 4
CLOSE_SECONDS = 10.0
MAX_AFTERWARDS = 4
"""Of one turn."""
MAX_BACKGROUND = 32
AFTERWARDS_SECONDS = 60.0

_log = logging.getLogger(__name__)
_INTERRUPTED = "The answer was interrupted. Please try again."
_UNSAVED = "The answer could not be saved completely. Please reload the conversation."

Source = Callable[[Run], AsyncIterator[ThreadStreamEvent]]
"""Makes the events of a run."""
OnTrace = Callable[[TurnTrace], None]


class RunHub:
    """The runs of one process. `close` stops them and saves what they said."""

    def __init__(self, database: Database, *, on_trace: OnTrace | None = None) -> None:
        """`on_trace` is told of every turn that was stored; it must be quick."""
        self.database = database
        self._on_trace = on_trace
        self.traces = TraceLog(database)
        self._afterwards: set[asyncio.Task[None]] = set()
        self.process_id = ids.new_id("proc")
        self._runs: dict[str, Run] = {}
        self._by_tenant: Counter[UUID | None] = Counter()
        self._kept: OrderedDict[str, tuple[float, Run]] = OrderedDict()
        self._kept_bytes = 0
        self._ticker: asyncio.Task[None] | None = None
        self._closing = False
        self._ending = asyncio.Semaphore(database.hot.size)
        """Thousands may end at once: who waits for a connection does so with nothing in hand."""

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: str) -> Run | None:
        """A run that is going on, or a resumable one that ended within the last minute."""
        run = self._runs.get(run_id)
        if run is None and (kept := self._kept.get(run_id)) is not None:
            run = kept[1]
        return run

    def forget_thread(self, tenant_id: UUID, thread_id: str) -> None:
        """The thread was deleted: its answer stops, and nothing of it can be resumed."""
        for run in [*self._runs.values(), *(kept for _, kept in self._kept.values())]:
            if (run.key.tenant_id, run.key.thread_id) == (tenant_id, thread_id):
                run.resumable = False
                run.stop("cancelled")
                if self._kept.pop(run.key.run_id, None) is not None:
                    self._kept_bytes -= run.bytes

    def require_room(self, tenant_id: UUID | None = None) -> None:
        """Raise `TooManyConcurrent` when this process has all the runs it can take, from this tenant or at all.

        A tenant may have as many as there is room left: half of all if it is alone, a third beside another like it, and
        there is always room for one who comes later. So a model that hangs takes up its own tenant's room.
        """
        room = MAX_RUNS - len(self._runs)
        if self._closing or room <= 0 or self._by_tenant[tenant_id] >= room:
            metrics.LIMIT_REFUSALS.of("process").add()
            raise TooManyConcurrent(
                "Too many answers are being written right now. Try again in a moment.", headers={"Retry-After": "5"}
            )

    def start(self, run: Run, source: Source) -> None:
        """Set a run going, which holds its thread already."""
        self._runs[run.key.run_id] = run
        self._by_tenant[run.key.tenant_id] += 1
        metrics.RUNS_STARTED.value += 1
        metrics.RUNS.value += 1
        run.task = asyncio.create_task(self._drive(run, source))
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._tick())

    async def _drive(self, run: Run, source: Source) -> None:
        status = "failed"
        run.started = True
        try:
            status = await self._consume(run, source) if run.stop_reason is None else self._stopped(run)
        finally:
            # Nothing may keep a run from ending, or its thread stays busy.
            run.finishing = True
            await self._finish(run, status)

    async def _consume(self, run: Run, source: Source) -> str:
        """Take in all events. Returns how the run ends: done, cancelled or failed."""
        count = 0
        events = source(run)
        try:
            async for event in events:
                run.apply(event)
                count += 1
                if count % BREATHE_EVERY == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            await _close(events)
            return self._stopped(run)
        except Exception as error:
            await _close(events)
            run.finishing = True
            run.keep_partial()
            run.trace.error_code = error.code if isinstance(error, StonechatError) else "internal"
            run.publish(error_event(error))
            return "failed"
        run.finishing = True
        run.keep_partial()
        return "done"

    def _stopped(self, run: Run) -> str:
        run.finishing = True
        run.keep_partial()
        match run.stop_reason:
            case "cancelled":
                run.note_cancelled()
                return "cancelled"
            case "timeout":
                run.trace.error_code = "timeout"
                run.publish(failure("The answer took too long and was cut off.", allow_retry=True))
            case reason:
                run.trace.error_code = reason
                run.publish(failure(_INTERRUPTED, allow_retry=True))
        return "failed"

    # Writing down

    async def _finish(self, run: Run, status: str) -> None:
        if not run.thread.title and (run.refusal is not None or not run.trace.blocked):
            run.propose_title(run.default_title)  # not the words of a question that a guardrail stopped
        try:
            run.publish_thread_if_changed()
            if run.checkpointing is not None:
                await run.checkpointing
            if await self._store_end(run, status):
                if status == "done":
                    self._do_afterwards(run)
            elif run.stop_reason != "lost":
                run.publish(failure(_INTERRUPTED, allow_retry=True))
        except Exception:
            _log.exception("could not finish run %s; a sweeper will", run.key.run_id)
            run.publish(failure(_UNSAVED, allow_retry=False))
        finally:
            run.close()
            count_end(run, status)
            del self._runs[run.key.run_id]
            self._by_tenant[run.key.tenant_id] -= 1
            if not self._by_tenant[run.key.tenant_id]:
                del self._by_tenant[run.key.tenant_id]
            self._keep(run)
            if run.on_end is not None:
                with contextlib.suppress(Exception):
                    await run.on_end()

    async def _store_end(self, run: Run, status: str) -> bool:
        entries = entries_of(run)
        changes, attempt = run.changes, 0
        trace = run.trace_until_now(cast("Outcome", status))
        # Where nothing else goes on there is nothing to write it with.
        later = len(self._runs) > 1 and not self._closing and self.traces.has_room
        while True:
            attempt += 1
            try:
                async with self._ending:
                    # A run that no one can resume needs no more of its events: its items say it all.
                    payload = run.frames.after(run.stored) or None if run.resumable else None
                    done = await journal.finish(
                        self.database,
                        run.key,
                        status=status,
                        changes=changes,
                        first_seq=run.stored + 1,
                        last_seq=len(run.frames),
                        payload=payload,
                        thread=run.thread if run.thread_changed else None,
                        keep_status=not run.status_changed,
                        propose_title=not run.title_changed,
                        usage=entries,
                        trace=None if later else trace,
                    )
            except asyncpg.UniqueViolationError:
                if not changes:
                    raise
                _log.warning("run %s made an item that its thread already has", run.key.run_id)
                run.publish(failure(_UNSAVED, allow_retry=True))
                status, changes = "failed", []
                run.trace.error_code = "duplicate_item"
                trace = run.trace_until_now("failed")
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, TimeoutError):
                if attempt >= FINISH_ATTEMPTS:
                    raise
                await asyncio.sleep(0.2 * 2**attempt)
            else:
                # A second attempt finds the run ended if the first one's answer was lost on the way.
                done = done or attempt > 1
                if done and later:
                    self.traces.add(run.key, trace)
                if done and self._on_trace is not None:
                    self._on_trace(trace)
                return done

    async def _tick(self) -> None:
        while self._runs:  # while closing too, which may take longer than a lease
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._checkpoint()
            except Exception:
                _log.exception("checkpoint failed; the next one includes what it should have stored")
        self._forget_old()

    async def _checkpoint(self) -> None:
        now = asyncio.get_running_loop().time()
        due: list[Run] = []
        ending: list[Run] = []
        for run in self._runs.values():
            run.wake_if_silent(now)
            if run.finishing:
                if now - run.renewed_at >= RENEW_AFTER_SECONDS:
                    ending.append(run)
            elif now - run.started_at > RUN_SECONDS:
                run.stop("timeout")
            elif (run.unstored_since and now - run.unstored_since >= STORE_AFTER_SECONDS) or (
                now - run.renewed_at >= RENEW_AFTER_SECONDS
            ):
                due.append(run)
        self._forget_old()
        while due:
            part: list[Run] = []
            size = 0
            while due and len(part) < CHECKPOINT_RUNS and size < CHECKPOINT_BYTES:
                run = due.pop()
                if not run.finishing:
                    size += run.unstored_bytes
                    part.append(run)
            await self._store_batches(part, now)
        for first in range(0, len(ending), CHECKPOINT_RUNS):
            await self._renew(ending[first : first + CHECKPOINT_RUNS], now)

    async def _renew(self, runs: list[Run], now: float) -> None:
        """Tell sweepers that these live: where thousands end at once, the last wait longer than a lease for their turn."""
        await journal.checkpoint(self.database, [Batch(run.key, 0, 0, None) for run in runs])
        for run in runs:
            run.renewed_at = now

    async def _store_batches(self, runs: list[Run], now: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        upto: dict[str, int] = {}
        try:
            for run in runs:
                run.checkpointing = done
            for run in runs:
                if run.changes:  # before the events that speak of them
                    await self._store_changes(run, run.changes[:])
            batches = []
            for run in runs:
                payload = run.frames.after(run.stored) or None
                upto[run.key.run_id] = len(run.frames)
                run.unstored_since, run.unstored_bytes = 0.0, 0
                batches.append(Batch(run.key, run.stored + 1, len(run.frames), payload, uses_to_note(run)))
            try:
                answer = await journal.checkpoint(self.database, batches)
            except BaseException:
                for run in runs:
                    run.unstored_since = run.unstored_since or now
                    run.noted_uses = ()
                raise
            for run in runs:
                run.stored, run.renewed_at = upto[run.key.run_id], now
                state = answer.get(run.key.run_id)
                if state is not None:
                    run.stop("cancelled" if state == "cancel" else "lost")
                if state != "lost":
                    run.forget_stored()
        finally:
            done.set_result(None)
            for run in runs:
                run.checkpointing = None

    async def _store_changes(self, run: Run, changes: list[ItemChange]) -> None:
        try:
            await journal.write_items(self.database, run.key, changes)
        except asyncpg.UniqueViolationError:
            _log.warning("run %s made an item that its thread already has", run.key.run_id)
            run.stop("lost")
            return
        del run.changes[: len(changes)]

    # After the end

    def _do_afterwards(self, run: Run) -> None:
        """What the turn left to be done, within bounds: what does not fit is not done."""
        for work in run.afterwards[:MAX_AFTERWARDS]:
            if self._closing or len(self._afterwards) >= MAX_BACKGROUND:
                return
            task = asyncio.create_task(_quietly(work))
            self._afterwards.add(task)
            task.add_done_callback(self._afterwards.discard)

    async def afterwards_done(self) -> None:
        """Wait for what ended turns left to be done."""
        while self._afterwards:
            await asyncio.wait(list(self._afterwards))
        await self.traces.written()

    def _keep(self, run: Run) -> None:
        if run.resumable:
            self._kept[run.key.run_id] = (asyncio.get_running_loop().time(), run)
            self._kept_bytes += run.bytes
            self._forget_old()

    def _forget_old(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._kept:
            run_id, (since, run) = next(iter(self._kept.items()))
            if now - since < KEEP_SECONDS and self._kept_bytes <= KEEP_BYTES:
                return
            del self._kept[run_id]
            self._kept_bytes -= run.bytes

    async def close(self) -> None:
        """Stop every run and save what it said. Takes at most about `CLOSE_SECONDS`."""
        self._closing = True
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for run in list(self._runs.values()):
            run.stop("shutdown")
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for background in list(self._afterwards):
            background.cancel()
        if self._afterwards:
            await asyncio.wait(list(self._afterwards), timeout=1)
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait([self._ticker], timeout=1)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.traces.written(), timeout=1)
        self._kept.clear()


async def _quietly(work: Callable[[], Awaitable[object]]) -> None:
    try:
        async with asyncio.timeout(AFTERWARDS_SECONDS):
            await work()
    except Exception:
        _log.warning("Work that a turn left to be done failed.", exc_info=True)


async def _close(events: AsyncIterator[ThreadStreamEvent]) -> None:
    """Let the assistant stop its model."""
    if (aclose := getattr(events, "aclose", None)) is not None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(aclose(), timeout=CLOSE_SECONDS)
