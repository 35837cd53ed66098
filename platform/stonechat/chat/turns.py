"""From a request to a run: claim the thread, store what the visitor sent, gather what the assistant needs, set it going."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, assert_never

from chatkit.actions import Action
from chatkit.store import NotFoundError
from chatkit.types import (
    AudioInput,
    FeedbackKind,
    NonStreamingReq,
    StreamingReq,
    SyncCustomActionResponse,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadsAddClientToolOutputReq,
    ThreadsAddStructuredInputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsDeleteReq,
    ThreadsRetryAfterItemReq,
    ThreadStreamEvent,
    TranscriptionResult,
    UserMessageInput,
    UserMessageItem,
    WidgetItem,
)

from stonechat import clock, ids
from stonechat.assistant.cache import ConfigCache
from stonechat.assistant.choices import require_choices
from stonechat.assistant.config import AgentConfig, image_hosts
from stonechat.assistant.over_limit import OverLimit
from stonechat.assistant.turn import Responder, RunsTools, Turn, WritesTitles
from stonechat.assistant.unanswered import UnansweredQuestions
from stonechat.chat.acting import Acted, act, require_answers, require_output, say_nothing, withdraw
from stonechat.chat.actions import plan_action
from stonechat.chat.attachments import Attachments
from stonechat.chat.claiming import abandon, claim
from stonechat.chat.codec import storable_id
from stonechat.chat.configs import PublishedConfigs
from stonechat.chat.dictation import Dictation
from stonechat.chat.events import wire_json
from stonechat.chat.hand_over import SILENT, request_person, silence
from stonechat.chat.history_pages import HISTORY_ITEMS, earlier_items, newest_items
from stonechat.chat.hub import RunHub, Source
from stonechat.chat.item_ids import id_of_item
from stonechat.chat.journal import Begun, RunKey
from stonechat.chat.judged import note_judgement
from stonechat.chat.links import FileLinks
from stonechat.chat.messages import message_of
from stonechat.chat.runs import STREAM_OPTIONS, OnEnd, Run, thread_response
from stonechat.chat.server import TenantChatKitServer
from stonechat.chat.store import PostgresStore
from stonechat.chat.titles import first_words, titled
from stonechat.chat.uploading import Uploads
from stonechat.errors import Conflict, NotFound, NotOffered
from stonechat.files import FileStore
from stonechat.identity.caller import Caller


class ChatServer(TenantChatKitServer[Caller]):
    """The platform's chat: the protocol on Postgres, answered by `responder`, each answer a run of `hub`."""

    def __init__(
        self,
        hub: RunHub,
        responder: Responder,
        *,
        configs: ConfigCache | None = None,
        files: FileStore | None = None,
        links: FileLinks | None = None,
        tools: RunsTools | None = None,
        titles: WritesTitles | None = None,
        dictation: Dictation | None = None,
        unanswered: UnansweredQuestions | None = None,
    ) -> None:
        """Without `files` and `links` no assistant takes files, without `tools` the actions of widgets are only told to
        the model, without `titles` conversations are called by their first words, without `dictation` nobody dictates."""
        self.attachments: Attachments | None = None
        if files is not None and links is not None:
            self.attachments = Attachments(hub.database, files, links, config_of=self.config_of)
            self.uploads = Uploads(self.attachments)
        super().__init__(PostgresStore(hub.database), self.attachments)
        self.hub = hub
        self.responder = responder
        self._over = OverLimit(hub.database, responder, partial(request_person, hub.database))
        self.tools = tools
        self.titles = titles
        self.dictation = dictation
        self.unanswered = unanswered
        self._published = PublishedConfigs(hub.database, configs or ConfigCache())

    async def start(
        self, request: StreamingReq, caller: Caller, *, resumable: bool = False, on_end: OnEnd | None = None
    ) -> Run:
        """Begin what the request asks for; `on_end` is awaited when the run is over.

        Raises `NotFound`, `ThreadLocked`, `ThreadBusy`, `AgentNotPublished`, `WrongItem`, `NotOffered`,
        `TooManyConcurrent`; then there is no run.
        """
        self.hub.require_room(caller.tenant_id)
        try:
            match request:
                case ThreadsCreateReq():
                    run, source = await self._start_message(request.params.input, caller, None, resumable=resumable)
                case ThreadsAddUserMessageReq():
                    run, source = await self._start_message(
                        request.params.input, caller, request.params.thread_id, resumable=resumable
                    )
                case _:
                    run, source = await self._start_other(request, caller, resumable=resumable)
        except NotFoundError:
            raise NotFound("There is no such conversation, message or file.") from None
        run.on_end = on_end
        self.hub.start(run, source)
        return run

    async def answer(self, request: NonStreamingReq, context: Caller) -> bytes:
        """As the base says; a thread that is deleted takes its answer with it."""
        answer = await super().answer(request, context)
        if isinstance(request, ThreadsDeleteReq):
            self.hub.forget_thread(context.tenant_id, request.params.thread_id)
        return answer

    def present(self, items: Sequence[ThreadItem], context: Caller) -> None:
        """As the base says: links to pictures."""
        if self.attachments is None:
            return
        for item in items:
            if isinstance(item, UserMessageItem) and item.attachments:
                item.attachments = [self.attachments.refreshed(each, context) for each in item.attachments]

    async def respond(
        self,
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,  # noqa: ARG002  the history ends with it
        context: Caller,
    ) -> AsyncIterator[ThreadStreamEvent]:
        """The same assistant for the SDK's own `process`, whose streams live and die with their listener."""
        history = await newest_items(self.store, thread.id, context)
        run, config = await self._loose_run(thread, context)
        async for event in self._answer(run, caller=context, config=config, history=history):
            yield event

    async def action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: Caller
    ) -> AsyncIterator[ThreadStreamEvent]:
        """What a visitor did in a widget, for the SDK's own `process`."""
        run, config = await self._loose_run(thread, context)
        step = plan_action(config, sender, action)
        history = await newest_items(self.store, thread.id, context)
        turn = self._turn(run, caller=context, config=config, history=history)
        async for event in act(turn, step, tools=self.tools, go_on=partial(self._respond, run)):
            yield event

    async def sync_action(
        self, thread: ThreadMetadata, action: Action[str, Any], sender: WidgetItem | None, context: Caller
    ) -> SyncCustomActionResponse:
        """As `action`, without an answer in words: the widget, if the tool behind the action answered with one."""
        config = await self.config_of(context)
        step, acted = plan_action(config, sender, action), Acted()
        self.hub.require_room(context.tenant_id)
        key = self._key(context, thread.id)
        begun = await self._claim(key, context, new_thread=None, item=None, resumable=False)
        run = self._run(key, context, begun, resumable=False, title=None)
        run.refusal = None  # no model is asked
        run.allow_pictures(image_hosts(config), is_new=False)
        turn = self._turn(run, caller=context, config=config, history=begun.history)
        self.hub.start(run, lambda _: acted.watch(act(turn, step, tools=self.tools, go_on=say_nothing)))
        while not run.finished:
            await run.wait(len(run.frames))
        if acted.error is not None:
            raise acted.error
        if acted.asks:
            raise Conflict("This needs your yes first: the question stands in the conversation. Load it again.")
        return SyncCustomActionResponse(updated_item=acted.item)

    # A new message

    async def _start_message(
        self, message: UserMessageInput, caller: Caller, thread_id: str | None, *, resumable: bool
    ) -> tuple[Run, Source]:
        if thread_id is not None and not storable_id(thread_id):
            raise NotFoundError(f"Thread {thread_id!r:.200} not found")
        new = None
        if thread_id is None:
            new = ThreadMetadata(id=self.store.generate_thread_id(caller), created_at=clock.now())
        key = self._key(caller, new.id if new else str(thread_id))
        item = await message_of(message, caller, thread_id=key.thread_id, files=self.attachments or self.store)
        if message.inference_options.model is not None or message.inference_options.tool_choice is not None:
            require_choices(await self.config_of(caller), message.inference_options)
        begun = await self._claim(key, caller, new_thread=new, item=item, resumable=resumable)
        run = self._run(key, caller, begun, resumable=resumable, title=first_words(item))
        try:
            config = await self._published.at(caller, begun.agent_version)
        except BaseException:
            await abandon(self.hub.database, run)
            raise
        try:
            if self.attachments is not None:
                await self.attachments.bind(caller, item.attachments, thread_id=key.thread_id)
        except BaseException:
            await abandon(self.hub.database, run, sent=item)
            if new:
                await self.store.delete_thread(new.id, caller)
            raise
        run.allow_pictures(image_hosts(config), is_new=new is not None)
        if new:
            run.publish(ThreadCreatedEvent(thread=thread_response(new)))
        run.publish_ready(f'{{"type":"thread.item.done","item":{wire_json(item)}}}')
        run.publish_ready(STREAM_OPTIONS)
        history, withdrawn = withdraw(begun.history)
        for event in withdrawn:
            run.apply(event)
        history.append(item)
        return run, lambda run: self._answer(run, caller=caller, config=config, history=history)

    # Everything else: first make sure that it can be done, then claim the thread, then do it

    async def _start_other(
        self,
        request: (
            ThreadsAddClientToolOutputReq
            | ThreadsAddStructuredInputReq
            | ThreadsRetryAfterItemReq
            | ThreadsCustomActionReq
        ),
        caller: Caller,
        *,
        resumable: bool,
    ) -> tuple[Run, Source]:
        await self.check(request, caller)
        if isinstance(request, ThreadsAddClientToolOutputReq):
            require_output(request.params.result)
        elif isinstance(request, ThreadsAddStructuredInputReq):
            require_answers(request.params.input)
        key = self._key(caller, request.params.thread_id)
        begun = await self._claim(key, caller, new_thread=None, item=None, resumable=resumable)
        run = self._run(key, caller, begun, resumable=resumable, title=None)
        try:
            source = await self._prepare(request, caller, run)
        except BaseException:
            await abandon(self.hub.database, run)
            raise
        return run, source

    async def _prepare(self, request: Any, caller: Caller, run: Run) -> Source:
        """Change the thread as the request asks, now that nobody else can; returns what to stream."""
        thread_id = run.key.thread_id
        run.publish_ready(STREAM_OPTIONS)
        match request:
            case ThreadsCustomActionReq(params=params):
                sender = await self.sender(thread_id, params.item_id, caller)
                config = await self._published.at(caller, run.agent_version)
                step = plan_action(config, sender, params.action)
                run.allow_pictures(image_hosts(config), is_new=False)
                history = await newest_items(self.store, thread_id, caller)
                turn = self._turn(run, caller=caller, config=config, history=history)
                return lambda run: act(turn, step, tools=self.tools, go_on=partial(self._respond, run))
            case ThreadsAddClientToolOutputReq(params=params):
                call = await self.pending_tool_call(thread_id, caller)
                call.output, call.status = params.result, "completed"
                await self.store.save_item(thread_id, call, caller)
                await self._cleanup_pending_client_tool_call(run.thread, caller)
                history = await newest_items(self.store, thread_id, caller)
            case ThreadsAddStructuredInputReq(params=params):
                form = await self.pending_structured_input(thread_id, params.item_id, caller)
                form = await self._apply_structured_input_submission(form, params.input)
                await self.store.save_item(thread_id, form, caller)
                run.publish(ThreadItemReplacedEvent(item=form))
                history = await newest_items(self.store, thread_id, caller)
            case ThreadsRetryAfterItemReq(params=params):
                if run.handling in SILENT:
                    raise NotOffered("A person answers this conversation, so that nothing can be answered again.")
                await self.message_to_retry(thread_id, params.item_id, caller)
                if run.refusal is None or run.refusal.reason == "cheaper":  # or the answer were lost for nothing
                    await self.store.delete_items_after(thread_id, params.item_id, caller)
                history = await newest_items(self.store, thread_id, caller)
            case _:
                assert_never(request)
        config = await self._published.at(caller, run.agent_version)
        run.allow_pictures(image_hosts(config), is_new=False)
        return lambda run: self._answer(run, caller=caller, config=config, history=history)

    # Shared

    async def _loose_run(self, thread: ThreadMetadata, caller: Caller) -> tuple[Run, AgentConfig]:
        version = await self._published.version(caller)
        key = self._key(caller, thread.id)
        run = Run(key, thread=thread, resumable=False, agent_id=caller.agent_id, agent_version=version)
        config = await self._published.at(caller, version)
        run.allow_pictures(image_hosts(config), is_new=False)
        return run, config

    def _key(self, caller: Caller, thread_id: str) -> RunKey:
        return RunKey(caller.tenant_id, caller.user_id, thread_id, ids.new_id("run"))

    async def _claim(
        self,
        key: RunKey,
        caller: Caller,
        *,
        new_thread: ThreadMetadata | None,
        item: ThreadItem | None,
        resumable: bool,
    ) -> Begun:
        return await claim(
            self.hub, key, caller, new_thread=new_thread, item=item, resumable=resumable, history=HISTORY_ITEMS
        )

    def _run(self, key: RunKey, caller: Caller, begun: Begun, *, resumable: bool, title: str | None) -> Run:
        run = Run(
            key,
            thread=begun.thread,
            resumable=resumable,
            agent_id=caller.agent_id,
            agent_version=begun.agent_version,
            default_title=title,
        )
        run.handling = begun.handling
        run.refusal = None if begun.handling in SILENT else begun.refusal
        return run

    async def transcribe(self, audio_input: AudioInput, context: Caller) -> TranscriptionResult:
        """What was said, if the agent offers dictation."""
        if self.dictation is None:
            raise NotOffered("This assistant does not offer dictation.")
        config = await self.config_of(context)
        return TranscriptionResult(text=await self.dictation.transcribe(audio_input.data, context, config=config))

    async def add_feedback(self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: Caller) -> None:
        """As the base says, if the agent takes judgements; what visitors dislike is noted as unanswered."""
        if not (await self.config_of(context)).feedback.enabled:
            raise NotOffered("This assistant takes no judgements of its answers.")
        await super().add_feedback(thread_id, item_ids, feedback, context)
        if self.unanswered is not None:
            await note_judgement(self.unanswered, self.hub.database, context, thread_id, item_ids, kind=feedback)

    async def config_of(self, caller: Caller) -> AgentConfig:
        """The configuration of the caller's agent as it is now."""
        return await self._published.now(caller)

    def _answer(
        self, run: Run, *, caller: Caller, config: AgentConfig, history: Sequence[ThreadItem]
    ) -> AsyncIterator[ThreadStreamEvent]:
        return self._respond(run, self._turn(run, caller=caller, config=config, history=history))

    def _respond(self, run: Run, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        if run.handling in SILENT:
            return silence(turn.config)
        if run.refusal is not None:
            return self._over.respond(turn, run.refusal)
        events = self.responder.respond(turn)
        if self.titles is not None and turn.config.titles == "model" and run.default_title and not run.thread.title:
            return titled(events, run=run, turn=turn, titles=self.titles, database=self.hub.database)
        return events

    def _turn(self, run: Run, *, caller: Caller, config: AgentConfig, history: Sequence[ThreadItem]) -> Turn:
        async def hand_over(reason: str) -> None:
            await request_person(self.hub.database, caller, thread_id=run.thread.id, reason=reason)

        return Turn(
            caller,
            config,
            run.thread,
            history,
            id_of_item,
            run_id=run.key.run_id,
            agent_version=run.agent_version,
            usage=run.usage,
            trace=run.trace,
            # The page was full, the message that the turn brought not counted: there may be more before it.
            earlier=earlier_items(self.store, run.thread.id, caller) if len(history) >= HISTORY_ITEMS else None,
            afterwards=run.afterwards,
            hand_over=hand_over if config.hand_over.enabled else None,
        )
