"""Which model answers a turn: the agent's, or the one that the visitor chose, and those that may stand in for it."""

from __future__ import annotations

from contextlib import AsyncExitStack

from chatkit.types import UserMessageItem

from stonechat.assistant.extractive import ExtractiveModel
from stonechat.assistant.scripted import ScriptedModel
from stonechat.assistant.tools.context import TurnContext
from stonechat.assistant.turn import Turn
from stonechat.errors import ModelUnknown, SecretUnreadable
from stonechat.providers.provider import ModelProviders, ResolvedModel
from stonechat.settings import Settings

BUILT_IN_PROVIDER = "built-in"

_SCRIPTED = ScriptedModel()


def model_of(turn: Turn) -> str:
    """The name of the model that the turn is meant for: what its last message chose, if the agent offers that."""
    offered = {choice.id for choice in turn.config.model_choices}
    for item in reversed(turn.history) if offered else ():
        if isinstance(item, UserMessageItem):
            chosen = item.inference_options.model
            return chosen if chosen is not None and chosen in offered else turn.config.model
    return turn.config.model


class ModelsOfTurn:
    """The model of a turn, and its fallbacks: those the tenant listed, and no others."""

    def __init__(
        self, context: TurnContext, stack: AsyncExitStack, *, providers: ModelProviders, settings: Settings
    ) -> None:
        """Models stay usable while `stack` is open."""
        self.providers = providers
        self._context = context
        self._stack = stack
        self._settings = settings
        name = model_of(context.turn)
        self._names = list(dict.fromkeys((name, *context.turn.config.fallback_models)))
        self._current: ResolvedModel | None = None

    async def current(self) -> ResolvedModel:
        """The model to ask now. Raises `ModelUnknown`."""
        if self._current is None:
            self._current = await self._resolve(self._names[0])
        return self._current

    async def fall_back(self) -> bool:
        """Go on to the next model that can be asked at all; it answers the rest of the turn. False if there is none."""
        while len(self._names) > 1:
            del self._names[0]
            try:
                self._current = await self._resolve(self._names[0])
            except (ModelUnknown, SecretUnreadable):
                continue  # deleted since the agent was published
            return True
        return False

    def _abstain(self) -> None:
        self._context.turn.trace.abstained = True

    async def _resolve(self, name: str) -> ResolvedModel:
        context = self._context
        if name == "extractive":
            model = ExtractiveModel(context.passages, quotes=context.knowledge.quotes, abstains=self._abstain)
            return ResolvedModel(BUILT_IN_PROVIDER, "extractive", model)
        if name == "scripted":
            if self._settings.is_production:
                raise ModelUnknown("The model “scripted” is for load tests and is refused in production.")
            return ResolvedModel(BUILT_IN_PROVIDER, "scripted", _SCRIPTED)
        return await self._stack.enter_async_context(self.providers.model(context.caller.tenant_id, name))
