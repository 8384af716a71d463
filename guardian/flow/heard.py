"""What an attempt at a facilitator or a seller gave, until it is written to the record. Pure.

A payment that is delivered at the first attempt keeps nothing of it, so what costs something (hashing, and
cutting secrets out) is done when it is written, not when it is heard.
"""

import hashlib
from typing import Final

import msgspec

from guardian.logs import redact
from guardian.settlement.attempts import Attempt

EXCERPT_CHARS: Final = 2048
LOOKED_AT_BYTES: Final = 16 * 1024
"""Of a body, for its excerpt: secrets are cut out before it is shortened, so that none is cut in two."""

MAX_NOTE_CHARS: Final = 300


class Heard(msgspec.Struct, frozen=True):
    """One answer, or none. at: Unix seconds; to: the facilitator or the route; status: 0 for no reply; note:
    what was made of it; body: as received; whole: all of it; shown: whether any of it may be quoted."""

    at: float
    to: str
    status: int
    note: str
    body: bytes = b""
    whole: bool = True
    shown: bool = True

    def attempt(self) -> Attempt:
        """As the record keeps it."""
        return Attempt(
            at=self.at,
            to=self.to,
            status=self.status,
            note=redact(self.note)[:MAX_NOTE_CHARS],
            excerpt=excerpt(self.body) if self.shown else "",
            size=len(self.body),
            sha256=hashlib.sha256(self.body).hexdigest() if self.whole and self.status else "",
            last_at=self.at,
        )


def excerpt(body: bytes) -> str:
    """The beginning of a body as text that may be shown: without secrets, and what is no text as `?`."""
    text = redact(body[:LOOKED_AT_BYTES].decode("utf-8", "replace"))
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text[:EXCERPT_CHARS])
