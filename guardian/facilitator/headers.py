"""Which headers travel end to end, and where a path lies below a facilitator. Pure functions."""

from collections.abc import Iterable
from urllib.parse import unquote

from guardian import errors

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110 §7.6.1 and its predecessors."""

WRITTEN_ANEW = frozenset({b"host", b"content-length", b"expect"})
"""The host is the facilitator's; the length is the body's; `Expect` is answered by our own server."""


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Drop hop-by-hop headers, those that `Connection` names, and those written anew."""
    lowered = [(name.lower(), name, value) for name, value in headers]
    dropped = HOP_BY_HOP | WRITTEN_ANEW
    if named := [value for lower, _, value in lowered if lower == b"connection"]:
        dropped |= {token.strip().lower() for value in named for token in value.split(b",")}
    return [(name, value) for lower, name, value in lowered if lower not in dropped]


def content_length(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The length that the caller announced, for a body that is passed on while it arrives."""
    return [(name, value) for name, value in headers if name.lower() == b"content-length"]


def below(base: str, path: str) -> str:
    """Join a path to a facilitator's URL. Raises NotSent for a path that would climb out of it."""
    decoded = unquote(unquote(path)).replace("\\", "/")
    if ".." in decoded.split("/") or "?" in path or "#" in path:
        raise errors.NotSent("the path cannot be joined to the facilitator's URL")
    return base.rstrip("/") + "/" + path.lstrip("/") if path else base
