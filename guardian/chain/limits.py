"""What an RPC service may be asked: how it says "slower", and how many calls it is sent. Pure.

A credit here is one JSON-RPC call, each call of a batch counted: services weigh methods differently,
and every one of them counts a batch by its calls. The rate is an upper bound; a service that says
"too many" has it halved, and it recovers with time. A budget may run into debt, so that a proof is
never skipped: whoever looks at the chain of its own accord waits until the debt is paid.
"""

import math
import re
from typing import Any

from guardian.wire.retry_after import read_retry_after

CALLS_PER_S = 500.0
"""A payment costs some five calls from its first look to finality: enough for a hundred of them a second."""

BURST_S = 10.0
"""What was not used for this long may be used at once: an outage is caught up with, a crowd looked at."""

LOWEST_PER_S = 1.0
RECOVERY_S = 30.0
"""A rate that was halved doubles in this time."""

REST_FIRST_S = 1.0
REST_CAP_S = 60.0
"""Where the service does not say how long; most count by the second, some by the minute."""

RETRY_AFTER_CAP_S = 3600.0
"""A spent daily quota is asked about once an hour."""

STRIKES_FORGOTTEN_S = 120.0

_CODES = {429, -32005, -32029, -32007, -32012, -32016}
"""HTTP's own; EIP-1474's limit exceeded; and those of some large services."""

_LIMITED = re.compile(
    r"rate.?limit|too many (concurrent )?requests|compute units|request limit reached|capacity"
    r"|credits limited|request count exceeded|throughput|quota",
    re.IGNORECASE,
)
_TOO_MUCH = re.compile(r"results|range|response size|blocks?\b|logs\b", re.IGNORECASE)
"""The same codes are used where one log query asks for too much: that is cured by asking for less."""

_REVERTED = re.compile(r"revert|vm execution", re.IGNORECASE)
REVERTED_CODE = 3
"""A contract chooses the text it reverts with; a stranger's must not silence the endpoint."""


def is_rate_limit(error: Any) -> bool:
    """Whether a JSON-RPC error object means "fewer calls", and not "a smaller question"."""
    if not isinstance(error, dict):
        return False
    text, code = str(error.get("message", "")), error.get("code")
    if code == REVERTED_CODE or _REVERTED.search(text):
        return False
    if _LIMITED.search(text):
        return True
    return isinstance(code, int) and code in _CODES and not _TOO_MUCH.search(text)


def wait_in_error_s(error: Any) -> float | None:
    """`data.rate.backoff_seconds` of an error object; None where it names none."""
    try:
        found = error["data"]["rate"]["backoff_seconds"]
    except (KeyError, TypeError, IndexError):
        return None
    return _bounded(found)


def retry_after_s(header: str | None, now: float) -> float | None:
    """Retry-After in seconds or as an HTTP date, now: Unix seconds; None where it says nothing."""
    return _bounded(read_retry_after(header, now)) if header else None


def _bounded(found: Any) -> float | None:
    if not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return min(max(float(found), 0.0), RETRY_AFTER_CAP_S)


class Budget:
    """The calls of one endpoint. All times from one monotonic clock, in seconds."""

    def __init__(self, per_s: float = CALLS_PER_S) -> None:
        self.rest_until = -math.inf
        self._full_per_s = max(LOWEST_PER_S, per_s)
        self._halved_to = self._full_per_s
        self._limited_at = -math.inf
        self._strikes = 0
        self._left = self._full_per_s * BURST_S
        self._counted_at = -math.inf

    def per_s(self, now: float) -> float:
        """The rate in force: the full one, or what is left of it after the service complained."""
        doublings = min((now - self._limited_at) / RECOVERY_S, 64.0)
        return float(min(self._full_per_s, self._halved_to * 2.0**doublings))

    def resting_s(self, now: float) -> float:
        """How long the service wants no call at all."""
        return max(0.0, self.rest_until - now)

    def left(self, now: float) -> float:
        """Calls that may be sent at once; negative in debt."""
        rate = self.per_s(now)
        if self._counted_at > -math.inf:
            self._left += rate * max(0.0, now - self._counted_at)
        self._counted_at = now
        self._left = min(self._left, rate * BURST_S)
        return self._left

    def spend(self, calls: int, now: float) -> None:
        self._left = self.left(now) - calls

    def debt_s(self, now: float) -> float:
        """How long until the debt is paid."""
        return max(0.0, -self.left(now)) / self.per_s(now)

    def limited(self, now: float, wait_s: float | None) -> None:
        """The service refused calls for their number; wait_s: what it asked for, None: nothing."""
        if now - self._limited_at > STRIKES_FORGOTTEN_S:
            self._strikes = 0
        if self.resting_s(now) == 0.0:  # answers to one crowd of calls are one complaint
            self._halved_to = max(LOWEST_PER_S, self.per_s(now) / 2)
            self._limited_at = now
            self._strikes += 1
            self._left = min(self.left(now), 0.0)
        asked_s = min(REST_CAP_S, REST_FIRST_S * 2.0 ** min(self._strikes - 1, 10))
        self.rest_until = max(self.rest_until, now + (asked_s if wait_s is None else wait_s))
