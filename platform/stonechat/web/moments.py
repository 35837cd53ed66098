"""Times that callers write."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime


def in_utc(moment: datetime) -> datetime:
    """The same time in UTC, as Postgres is told it. Raises `ValueError` where UTC is a day before or after all days."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("this time is out of range") from None


Moment = Annotated[AwareDatetime, AfterValidator(in_utc)]
"""A time with its offset that can be compared with what is stored."""
