"""`ask_visitor`: questions with choices or a field for an answer, shown as a form; the turn goes on with the answers."""

from __future__ import annotations

from typing import Annotated, Literal

from agents import FunctionTool
from agents.tool_context import ToolContext
from chatkit.types import (
    StructuredInput,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    ThreadItemDoneEvent,
)
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from stonechat import clock
from stonechat.assistant.tools.context import TurnContext

ASK_TOOL_NAME = "ask_visitor"
MAX_QUESTIONS = 8
MAX_OPTIONS = 20

_Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


class _Question(BaseModel):
    question: _Words
    options: Annotated[list[_Words], Field(max_length=MAX_OPTIONS)] = []
    multiple: bool = False
    description: Annotated[str, StringConstraints(max_length=300)] | None = None


class _Questions(BaseModel):
    questions: Annotated[list[_Question], Field(min_length=1, max_length=MAX_QUESTIONS)]


def ask_visitor(context: TurnContext, arguments: str) -> str:
    """Put the questions into the conversation and end the turn; returns what the model is told."""
    if context.ended:
        return "Not asked: something else waits for the visitor already. Ask one thing at a time."
    try:
        asked = _Questions.model_validate_json(arguments)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"][:4])
        return f"The questions were not understood ({where}: {fault['msg'][:200]}). Correct them and ask again."
    with context.turn.trace.span("tool", ASK_TOOL_NAME, questions=len(asked.questions)):
        context.emit(
            ThreadItemDoneEvent(
                item=StructuredInputItem(
                    id=context.turn.generate_item_id("structured_input"),
                    thread_id=context.thread_id,
                    created_at=clock.now(),
                    inputs=[
                        _input(f"q{number}", _cleaned(context, each))
                        for number, each in enumerate(asked.questions, start=1)
                    ],
                )
            )
        )
    context.ended = True
    return "The visitor was asked."


def _cleaned(context: TurnContext, asked: _Question) -> _Question:
    """The question as the agent's rules let visitors see it."""
    return _Question.model_construct(
        question=context.clean(asked.question) or "…",
        options=[option for each in asked.options if (option := context.clean(each))],
        multiple=asked.multiple,
        description=context.clean(asked.description) if asked.description else None,
    )


def _input(input_id: str, asked: _Question) -> StructuredInput:
    options = list(dict.fromkeys(asked.options))
    if not options:
        return StructuredInputFreeform(id=input_id, question=asked.question, description=asked.description or None)
    return StructuredInputMultipleChoice(
        id=input_id,
        question=asked.question,
        options=[StructuredInputMultipleChoiceOption(value=option) for option in options],
        multiple=asked.multiple,
    )


async def _invoke(context: ToolContext[TurnContext], arguments: str) -> str:
    return ask_visitor(context.context, arguments)


_TEXT: dict[Literal["type"], str] = {"type": "string"}
ASK_TOOL = FunctionTool(
    name=ASK_TOOL_NAME,
    description=(
        "Ask the visitor for what you need in order to help: questions with choices, or free answers. They are shown as a "
        "form, and you continue with the answers. The visitor may skip any of them. Say nothing else in the same step."
    ),
    params_json_schema={
        "type": "object",
        "properties": {
            "questions": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_QUESTIONS,
                "items": {
                    "type": "object",
                    "properties": {
                        "question": _TEXT,
                        "options": {"type": "array", "items": _TEXT, "description": "Choices; none for a free answer."},
                        "multiple": {"type": "boolean", "description": "Whether several choices may be taken."},
                        "description": {"type": "string", "description": "A hint below a free answer."},
                    },
                    "required": ["question"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["questions"],
        "additionalProperties": False,
    },
    on_invoke_tool=_invoke,
    strict_json_schema=False,
)
