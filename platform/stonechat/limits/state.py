"""What a limit has left, and the headers that say so (draft-ietf-httpapi-ratelimit-headers)."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit as one caller finds it, just after a request."""

    name: str
    """`address`, `visitor`, `agent` or `tenant`."""
    quota: int
    window: int
    """Seconds."""
    remaining: int
    reset: int
    """Seconds until the window ends."""
    retry_after: int
    """Seconds until another request would be let through; 0 while some remain."""

    def headers(self) -> dict[str, str]:
        """`RateLimit` and `RateLimit-Policy`."""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.quota};w={self.window}',
            "RateLimit": f'"{self.name}";r={self.remaining};t={self.reset}',
        }


def state_of(name: str, *, quota: int, window: int, counts: tuple[int, float, int, float]) -> LimitState:
    """The state of a sliding window from what the engine stores of it.

    `counts` is the previous window's count and the seconds for which it still weighs, and the current window's count
    and time to live, which is what is left of the window plus one whole window.
    """
    previous, weighs, current, current_ttl = counts
    left = min(max(current_ttl - window, 0.0), float(window)) if current_ttl else float(window)
    used = floor(previous * weighs / window) + current
    remaining = max(quota - used, 0)
    if remaining > 0:
        wait = 0.0
    elif current < quota:
        # The previous window's weight falls steadily; one more is let through once the sum is below the quota.
        wait = weighs - (quota - current) * window / previous
    else:
        # First this window must end; then its own weight must fall.
        wait = left + max(window - quota * window / current, 0.0)
    # Strictly later than the moment of equality, at which the sum is still the quota.
    retry_after = min(floor(max(wait, 0.0)) + 1, 2 * window) if remaining == 0 else 0
    return LimitState(name, quota, window, remaining, max(ceil(left), 1), retry_after)
