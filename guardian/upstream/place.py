"""Where an upstream is, and which paths lie below it. Pure functions.

A path is passed on byte by byte as the caller wrote it, or refused: nothing is normalised, so nothing
can come to mean something else on the way. What any server might read as a step upwards is refused.
"""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote, urlsplit

_TARGET = re.compile(rb"[\x21-\x7e]*")
"""No byte that could end the request line. The server refuses others; another server might not."""

_PARAMETERS = re.compile(r"[;\x00]")
"""What some servers cut a segment at before they look what it means."""

_UNESCAPES = 3
"""A step upwards may hide below several layers of percent-encoding; more are no honest path."""

_OVERLONG_DOT = re.compile(r"%c0%(ae|2e)|%e0%80%ae", re.IGNORECASE)
"""UTF-8 forbids these spellings of a dot; old servers read them all the same."""


class BadPath(ValueError):
    """The path cannot be passed on; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """One upstream: its origin, and the path that everything asked there lies below.

    netloc: as `Host` names it; base: without the slash at its end, "" for the root.
    """

    secure: bool
    host: str
    port: int
    netloc: bytes
    base: bytes

    @classmethod
    def of(cls, url: str) -> Self:
        """From a URL of the policy: http or https, no credentials, no query."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        return cls(
            secure=secure,
            host=parts.hostname or "",
            port=parts.port or (443 if secure else 80),
            netloc=parts.netloc.encode("ascii"),
            base=parts.path.rstrip("/").encode("ascii"),
        )

    @property
    def origin(self) -> bytes:
        """Scheme and authority, without a slash at the end."""
        return (b"https://" if self.secure else b"http://") + self.netloc

    def target(self, rest: bytes, query: bytes) -> bytes:
        """What to ask for: `rest` is "" or begins with a slash. Raises BadPath."""
        refuse_climbing(rest)
        target = (self.base + rest) or b"/"
        if query:
            target += b"?" + query
        if not _TARGET.fullmatch(target):
            raise BadPath("the path has characters that no URL has")
        return target


def refuse_climbing(path: bytes) -> None:
    """Raise BadPath for what a server might take for a step upwards, however it is spelt."""
    if b".." not in path and b"%" not in path:
        return
    text = path.decode("latin-1")
    if _OVERLONG_DOT.search(text):
        raise BadPath("the path has a dot in a spelling that UTF-8 forbids")
    for _ in range(_UNESCAPES):
        for segment in text.replace("\\", "/").split("/"):
            if _PARAMETERS.split(segment, 1)[0].strip() == "..":
                raise BadPath("the path has a step upwards")
        before, text = text, unquote(text, "latin-1")
        if text == before:
            return
    raise BadPath("the path is percent-encoded too often")


def as_sent(raw_path: bytes | None, path: str) -> bytes:
    """The path as the caller wrote it; encoded anew where a server does not hand it on."""
    if raw_path is not None:
        return raw_path.partition(b"?")[0]
    return quote(path, safe="/:@!$&'()*+,;=~-._").encode("ascii")
