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

DROPPED = HOP_BY_HOP | WRITTEN_ANEW


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Drop hop-by-hop headers, those that `Connection` names, and those written anew."""
    kept, named = [], set()
    for pair in headers:
        name = pair[0].lower()
        if name == b"connection":
            named |= {token.strip().lower() for token in pair[1].split(b",")}
        elif name not in DROPPED:
            kept.append(pair)
    return [pair for pair in kept if pair[0].lower() not in named] if named else kept


def content_length(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The length that the caller announced, for a body that is passed on while it arrives."""
    return [(name, value) for name, value in headers if name.lower() == b"content-length"]


def below(base: str, path: str) -> str:
    """Join a path to a facilitator's URL. Raises NotSent for a path that would climb out of it."""
    decoded = unquote(unquote(path)).replace("\\", "/")
    if ".." in decoded.split("/") or "?" in path or "#" in path:
        raise errors.NotSent("the path cannot be joined to the facilitator's URL")
    return base.rstrip("/") + "/" + path.lstrip("/") if path else base
