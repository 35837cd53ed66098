"""Events of a model's stream take up a bounded amount of memory, however they are sent."""

from __future__ import annotations

import pytest
from agents.exceptions import ModelBehaviorError

from stonechat.providers.events import LINE_BYTES, MAX_EVENT_BYTES, StrictDecoder


@pytest.mark.parametrize("line", ["data:", "data: " + "x" * 1000, "unknown: x"])
def test_an_event_of_lines_without_end_is_given_up(line: str) -> None:
    decoder = StrictDecoder()
    for _ in range(MAX_EVENT_BYTES // (len(line) + LINE_BYTES)):
        decoder.decode(line)
    with pytest.raises(ModelBehaviorError, match="never ends"):
        decoder.decode(line)


def test_each_event_has_the_room_to_itself_and_comments_take_none() -> None:
    decoder = StrictDecoder()
    words = "x" * (MAX_EVENT_BYTES // 2)
    for _ in range(3):
        assert decoder.decode(f": {words}") is None
        assert decoder.decode(f"data: {words}") is None
        assert decoder.decode(f": {words}") is None
        event = decoder.decode("")
        assert event is not None
        assert event.data == words
