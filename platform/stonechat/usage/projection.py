"""Where the use of a period leads, if it goes on as it did so far."""

from __future__ import annotations

from datetime import datetime, timedelta

from stonechat.usage.period_use import Used

TOO_EARLY = timedelta(hours=6)
"""So soon in a period nothing is projected."""
_TICK = timedelta(microseconds=1)


def projected_use(used: Used, *, start: datetime, end: datetime, now: datetime) -> Used | None:
    """What it comes to at the end, each hour that is left bringing as much as those that are gone did on average.

    Never less than was used; None while it is too early to say.
    """
    gone, left = now - start, max(end - now, timedelta(0))
    if gone < TOO_EARLY:
        return None
    past, ahead = gone // _TICK, left // _TICK

    def at_end(amount: int) -> int:
        return amount + (2 * amount * ahead + past) // (2 * past)  # rounded, in whole numbers, however large

    return Used(at_end(used.messages), at_end(used.tokens))
