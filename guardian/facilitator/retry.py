"""The one door for trying again: tenacity, with both a count and a deadline.

Only a *result* that the caller names is tried again, never an exception: what was raised may have
been executed, and a cancellation must pass. No I/O of its own; clock and sleep are handed in.
"""

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import tenacity

from guardian.wire.retry_after import read_retry_after

T = TypeVar("T")

FIRST_WAIT_S = 1.0
MAX_WAIT_S = 8.0
JITTER_S = 0.5
"""So that callers which failed together do not come back together."""

MAX_RETRY_AFTER_S = 300.0
"""No caller waits longer; a larger figure only has to be larger than any deadline."""


async def try_again(
    attempt: Callable[[int], Awaitable[T]],
    *,
    again: Callable[[T], float | None],
    attempts: int,
    deadline: float,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """Call `attempt(1)`, `attempt(2)`, … until `again(result)` is None; give the last result.

    again: None to stop, else the least wait in seconds (a Retry-After, or 0.0 for the backoff alone).
    Never more than `attempts` calls; no wait that would end at or past `deadline` (in `clock`'s seconds).
    """
    first = await attempt(1)
    # Nearly every first attempt is the last one: building the machinery would cost more than all else.
    if attempts <= 1 or (first_wait_s := again(first)) is None:
        return first
    tried, least_wait_s = 0, 0.0

    def wanted(result: T) -> bool:
        nonlocal least_wait_s
        wait_s = first_wait_s if tried == 1 else again(result)
        least_wait_s = wait_s or 0.0
        return wait_s is not None

    backoff = tenacity.wait_exponential_jitter(initial=FIRST_WAIT_S, max=MAX_WAIT_S, jitter=JITTER_S)
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(wanted),
        wait=lambda state: max(least_wait_s, backoff(state)),
        stop=lambda state: state.attempt_number >= attempts or clock() + state.upcoming_sleep >= deadline,
        retry_error_callback=_last_result,
        sleep=sleep,
    )

    async def once() -> T:
        nonlocal tried
        tried += 1
        return first if tried == 1 else await attempt(tried)

    return await retrying(once)


def _last_result(state: tenacity.RetryCallState) -> object:
    assert state.outcome is not None
    return state.outcome.result()


def retry_after_s(headers: Iterable[tuple[bytes, bytes]], now: float) -> float | None:
    """The Retry-After header in seconds from `now` (unix time); None where there is none to be read."""
    for name, value in headers:
        if name.lower() == b"retry-after":
            seconds = read_retry_after(value.decode("latin-1"), now)
            return None if seconds is None else min(seconds, MAX_RETRY_AFTER_S)
    return None


def pause_s(tried: int, *, first_s: float, longest_s: float) -> float:
    """The pause after so many attempts, of those that outlive the process, so that nobody sleeps through
    them: twice as long each time, and up to a tenth more for what failed together."""
    return min(first_s * 2.0 ** min(tried - 1, 32), longest_s) * (1.0 + random.random() / 10)
