"""Headers across the agent plane: what goes up to an upstream, what comes down to a caller. Pure functions.

Everything end-to-end passes in its order and as often as it stands; what speaks of one connection stays
there; who asked, and for which host, is added by us and never believed from the caller.
"""

import re
from dataclasses import dataclass

from starlette.types import Scope

from guardian.facilitator.headers import HOP_BY_HOP
from guardian.upstream.place import Place
from guardian.upstream.reply import Reply
from guardian.wire.sent import pays

Headers = list[tuple[bytes, bytes]]

MAX_HOPS = 32
"""A request that was forwarded more often runs in a circle: a route that leads to its own guardian."""

_WRITTEN_ANEW = frozenset(
    {
        *(b"host", b"content-length", b"expect", b"forwarded"),
        *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix"),
    }
)
_NOT_UP = HOP_BY_HOP | _WRITTEN_ANEW
_NOT_DOWN = HOP_BY_HOP - {b"trailer"}
_NOT_AS_TRAILER = _NOT_UP | {b"content-encoding", b"content-type", b"content-range", b"set-cookie"}
"""RFC 9110 §6.5.1: no trailer may say how the message is framed, routed or read."""

_USUAL = (b"keep-alive", b"close", b"Keep-Alive", b"Close")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++: [^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+")
"""What RFC 9110 §5.5 and §5.6.2 allow: nothing in it can begin a second line."""


class RunsInACircle(ValueError):
    """The request has passed through too many proxies."""


@dataclass(frozen=True, slots=True)
class Route:
    """One paid API as callers see it: `/<name>/…`, and where that leads."""

    name: str
    place: Place

    @property
    def prefix(self) -> bytes:
        """What its paths begin with, without the slash at the end."""
        return b"/" + self.name.encode("ascii")


@dataclass(frozen=True, slots=True)
class Request:
    """A caller's request, as the upstream gets it. headers: without host, framing and forwarding.

    has_body, chunked, length: how its body is framed; expects: it waits for 100; pays: it carries a
    payment; trailers: it takes them.
    """

    method: str
    target: bytes
    headers: Headers
    forwarding: Headers
    has_body: bool
    length: bytes | None
    expects: bool
    pays: bool

    @property
    def chunked(self) -> bool:
        """The body's length is not known beforehand."""
        return self.has_body and self.length is None

    def head(self, place: Place, headers: Headers | None = None, *, length: int | None = None) -> bytes:
        """The request up to its empty line. headers: other ones; length: of another, whole body."""
        begin = b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (self.method.encode("ascii"), self.target, place.netloc)
        lines = [*(self.headers if headers is None else headers), *self.forwarding]
        if length is not None:
            named = self.has_body or self.length is not None
            lines += [(b"content-length", b"%d" % length)] if named else []
        elif self.length is not None:
            lines.append((b"content-length", self.length))
        elif self.has_body:
            lines.append((b"transfer-encoding", b"chunked"))
        if self.expects and length is None:
            lines.append((b"expect", b"100-continue"))
        block = _written(lines)
        if not _LINES.fullmatch(block):  # no caller may write a second line into a header
            block = _written([line for line in lines if _LINES.fullmatch(_written([line]))])
        return begin + block + b"\r\n"


def _written(lines: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % line for line in lines])


def request_of(scope: Scope, route: Route, target: bytes) -> Request:
    """Read a request for a route. Raises RunsInACircle."""
    named: set[bytes] = set()
    headers: Headers = []
    sent: dict[bytes, list[bytes]] = {}
    received: Headers = scope["headers"]
    for name, value in received:
        if name == b"connection" and value not in _USUAL:
            named.update(token.strip().lower() for token in value.split(b","))
        if name in _NOT_UP:
            sent.setdefault(name, []).append(value)
        else:
            headers.append((name, value))
    if named:
        headers = [line for line in headers if line[0] not in named]
    chunked = b"transfer-encoding" in sent
    length = None if chunked else next(iter(sent.get(b"content-length", ())), None)
    return Request(
        method=scope["method"],
        target=target,
        headers=headers,
        forwarding=_forwarding(scope, route, sent, named),
        has_body=chunked or length not in (None, b"0"),
        length=length,
        expects=any(value.strip().lower() == b"100-continue" for value in sent.get(b"expect", ())),
        pays=pays(headers),
    )


def _forwarding(scope: Scope, route: Route, sent: dict[bytes, list[bytes]], named: set[bytes]) -> Headers:
    """Who asked, for which host: added to what came, or in its place. Of TE only that trailers are taken."""
    client = scope.get("client")
    address = str(client[0]).encode("ascii", "replace") if client else b"unknown"
    host = next(iter(sent.get(b"host", ())), b"")
    scheme = scope.get("scheme", "http").encode("ascii")
    passed = [value for value in sent.get(b"x-forwarded-for", ()) if b"x-forwarded-for" not in named]
    before = [value for value in sent.get(b"forwarded", ()) if b"forwarded" not in named]
    if b",".join(passed).count(b",") >= MAX_HOPS:
        raise RunsInACircle(f"the request was forwarded more than {MAX_HOPS} times")
    own = b"for=%b;%bproto=%b" % (_quoted(address), b"host=%b;" % _quoted(host) if host else b"", scheme)
    lines = [
        (b"x-forwarded-for", b", ".join([*passed, address])),
        *([(b"x-forwarded-host", host)] if host else []),
        (b"x-forwarded-proto", scheme),
        (b"x-forwarded-prefix", route.prefix),
        (b"forwarded", b", ".join([*before, own])),
    ]
    if any(b"trailers" in value.lower() for value in sent.get(b"te", ())):
        lines += [(b"te", b"trailers"), (b"connection", b"te")]
    return lines


def _quoted(value: bytes) -> bytes:
    """As RFC 7239 writes a node or host: an IPv6 address in brackets and quotes."""
    if _TOKEN.fullmatch(value):
        return value
    if value.count(b":") > 1 and not value.startswith(b"["):
        value = b"[" + value + b"]"
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def answer_headers(reply: Reply, route: Route, *, trailing: bool) -> Headers:
    """A reply's headers for the caller: its own places named as the caller knows them. trailing: its
    trailers are passed on too, and may be announced."""
    dropped = _NOT_DOWN if trailing else HOP_BY_HOP
    named: set[bytes] = set()
    for name, value in reply.headers:
        if name == b"connection" and value not in _USUAL:
            named.update(token.strip().lower() for token in value.split(b","))
    bare = reply.status in (204, 304)  # a length here would be of a body that does not come
    kept: Headers = []
    for name, value in reply.headers:
        if name in dropped or name in named or (bare and name == b"content-length"):
            continue
        kept.append((name, _MAPPED[name](value, route)) if name in _MAPPED else (name, value))
    return kept


def trailers_of(reply: Reply) -> Headers:
    """A reply's trailers without those that HTTP forbids there."""
    return [line for line in reply.trailers if line[0] not in _NOT_AS_TRAILER]


def _location(value: bytes, route: Route) -> bytes:
    """A place below the upstream, as a place below the route; every other one as it is."""
    rest = value.removeprefix(route.place.origin)
    if rest == value and not (value.startswith(b"/") and not value.startswith(b"//")):
        return value
    path = re.split(rb"[?#]", rest, maxsplit=1)[0]
    base = route.place.base
    if rest and not rest.startswith((b"/", b"?", b"#")):
        return value  # http://host.example of http://host.example.evil
    if path != base and not path.startswith(base + b"/"):
        return value
    return route.prefix + rest.removeprefix(base)


def _cookie(value: bytes, route: Route) -> bytes:
    """A cookie of one upstream must not be sent to the next: it is kept to the route's paths and host."""
    parts = value.split(b";")
    kept = [parts[0]]
    host = route.place.host.encode("ascii")
    for part in parts[1:]:
        key, _, said = part.partition(b"=")
        key, said = key.strip().lower(), said.strip()
        domain = said.lstrip(b".").lower()
        if key == b"domain" and (host == domain or host.endswith(b"." + domain)):
            continue
        if key == b"path":
            base = route.place.base
            inside = said == base or said.startswith(base + b"/")
            below = said.removeprefix(base) if inside else b""
            part = b" Path=" + route.prefix + (below if below != b"/" else b"")
        kept.append(part)
    return b";".join(kept)


_MAPPED = {b"location": _location, b"content-location": _location, b"set-cookie": _cookie}
