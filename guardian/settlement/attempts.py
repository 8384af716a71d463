"""What was heard when a payment was sent or presented: kept on its record as evidence. No I/O, no clock.

Bounded: the same answer again only counts, the first ones and the newest stay.
"""

from collections.abc import Sequence

import msgspec

FIRST_KEPT, LAST_KEPT = 4, 8
"""Of the attempts on one record: how it began, and how it stands. With excerpts some 25 kB at the most."""


class Attempt(msgspec.Struct, frozen=True):
    """One attempt, or several in a row with the same answer.

    at, last_at: Unix seconds of the first and the last; to: the facilitator or the route; status: of HTTP, 0
    for no reply; note: what was made of it; excerpt: the body's beginning, without secrets; size, sha256: of
    the whole body, "" where not all of it was read.
    """

    at: float
    to: str
    status: int
    note: str
    excerpt: str = ""
    size: int = 0
    sha256: str = ""
    times: int = 1
    last_at: float = 0.0


def with_attempts(kept: Sequence[Attempt], more: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """What is kept once these were made too."""
    found = list(kept)
    for attempt in more:
        if found and _same(found[-1], attempt):
            last = found[-1]
            times = last.times + attempt.times
            found[-1] = msgspec.structs.replace(last, times=times, last_at=attempt.last_at or attempt.at)
            continue
        found.append(attempt)
        if len(found) > FIRST_KEPT + LAST_KEPT:
            del found[FIRST_KEPT]
    return tuple(found)


def _same(one: Attempt, other: Attempt) -> bool:
    """The answer is the same, and all of it is known."""
    facts = ("to", "status", "note", "excerpt", "size", "sha256")
    return all(getattr(one, fact) == getattr(other, fact) for fact in facts)
