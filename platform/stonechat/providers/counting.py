"""Counting what providers are asked beside answers: vectors, what was dictated, whether a text is harmful."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from stonechat import metrics
from stonechat.metrics import SidePurpose
from stonechat.providers.retries import judge


@contextmanager
def counted(purpose: SidePurpose) -> Iterator[None]:
    """Count one call, whatever becomes of it. What cuts it off from outside, such as a timeout around it, is `stopped`."""
    began, outcome = time.perf_counter(), "stopped"
    try:
        yield
        outcome = "answered"
    except Exception as error:
        outcome = "not_reached" if judge(error).counts else "refused"
        raise
    finally:
        metrics.asked_aside(purpose, outcome, seconds=time.perf_counter() - began)
