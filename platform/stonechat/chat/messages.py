"""What a visitor sends as an item of the thread, or why it cannot be one."""

from __future__ import annotations

from chatkit.types import Attachment, UserMessageInput, UserMessageItem, UserMessageTagContent

from stonechat import clock
from stonechat.chat.attachments import Attachments
from stonechat.chat.store import PostgresStore, new_item_id
from stonechat.errors import InvalidInput, NotOffered, TooManyFiles
from stonechat.identity.caller import Caller

MAX_ATTACHMENTS = 10
MAX_CHARACTERS = 32_000
MAX_PARTS = 500
MAX_TAG_CHARACTERS = 64_000
"""Of all tags of a message together, with what the page put into them. Every later turn reads them again."""


async def message_of(
    message: UserMessageInput, caller: Caller, *, thread_id: str, files: Attachments | PostgresStore[Caller]
) -> UserMessageItem:
    """The message with its files. `files` is only the store where no assistant takes any.

    Raises `TooManyFiles`, `InvalidInput`, `NotOffered`, what `Attachments.take` raises, and the SDK's `NotFoundError`.
    """
    if len(message.attachments) > MAX_ATTACHMENTS:
        raise TooManyFiles(f"A message can have at most {MAX_ATTACHMENTS} files.")
    if max(sum(len(part.text) for part in message.content), len(message.quoted_text or "")) > MAX_CHARACTERS:
        raise InvalidInput(f"A message can have at most {MAX_CHARACTERS:,} characters.")
    attachments: list[Attachment] = []
    if message.attachments:
        if isinstance(files, PostgresStore):
            await files.load_attachment(message.attachments[0], caller)
            raise NotOffered("This assistant does not take files.")
        attachments = await files.take(caller, message.attachments, thread_id=thread_id)
    item = UserMessageItem(
        id=new_item_id("message"),
        thread_id=thread_id,
        created_at=clock.now(),
        content=message.content,
        attachments=attachments,
        quoted_text=message.quoted_text,
        inference_options=message.inference_options,
    )
    _require_words(item)
    return item


def _require_words(message: UserMessageItem) -> None:
    """Raise `InvalidInput` for a message that says nothing, or hides more in its parts than anybody writes."""
    if len(message.content) > MAX_PARTS:
        raise InvalidInput(f"A message can have at most {MAX_PARTS} parts.")
    tags = [part for part in message.content if isinstance(part, UserMessageTagContent)]
    if sum(len(tag.model_dump_json()) for tag in tags) > MAX_TAG_CHARACTERS:
        raise InvalidInput(f"The tags of a message have at most {MAX_TAG_CHARACTERS:,} characters as JSON.")
    if not message.attachments and not any(part.text.replace("\x00", "").strip() for part in message.content):
        raise InvalidInput("The message is empty. Write something first.")
