"""Who is calling the data port, and whether it may: keys, names that a proxy vouches for, paces and caps.

The policy is handed in with each request, so that a new one holds at once; what was counted stays. Keys
are compared in constant time, over digests, and never kept or shown. No waiting: a caller over its limit
is told when to come again.
"""

import hashlib
import hmac
import ipaddress
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from starlette.types import Scope

from guardian.errors import PolicyError
from guardian.facilitator.auth import Secret
from guardian.policy.callers import CallersPolicy, IpNetwork

LEAST_KEY_CHARS: Final = 16
"""Shorter ones can be guessed over the network, at the rate that a guardian answers."""

RECHECK_S: Final = 1.0
"""How soon a key that was replaced in its file holds; a look per request would cost more than the rest."""

MAX_CALLERS: Final = 65_536
"""Callers that are remembered; some 20 MB."""

LOG_EVERY_S: Final = 10.0

LOOKED_AT: Final = 64
"""How many of the longest unseen callers are looked at for one that may be forgotten."""

MAX_NAME_CHARS: Final = 256
MAX_HOPS: Final = 32
FULL_RETRY_S: Final = 1
IPV6_SITE_BITS: Final = 64
"""One IPv6 subscriber has 2^64 addresses; they are one caller."""

Headers = Sequence[tuple[bytes, bytes]]
Told = Callable[[str, str], None]
"""Told of each refusal: why (`unknown`, `pace`, `open`, `all`, `keys`), and the caller's name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further, in words and as HTTP. retry_s: 0 where waiting does not help."""

    status: int
    reason: str
    field: str
    found: str
    cure: str
    retry_s: int = 0

    @property
    def passing(self) -> bool:
        """Another request of the same caller may go through: it asked too often, and is known."""
        return self.status == 429

    @property
    def headers(self) -> Headers:
        """What the answer carries beside its body."""
        if self.retry_s:
            return ((b"retry-after", b"%d" % self.retry_s),)
        return (
            ((b"www-authenticate", b'Key header="%b"' % self.field.encode()),) if self.status == 401 else ()
        )


class _Account:
    """What one caller has used. due: when its pace is all paid back, in the clock's seconds."""

    __slots__ = ("due", "open")

    def __init__(self) -> None:
        self.due = 0.0
        self.open = 0


class Entry:
    """One request at the door: refused, or in until the block is left. headers: without those that are
    meant for the guardian alone; caller: who it is, where it has shown a key or a certificate, or ""."""

    __slots__ = ("_account", "_door", "caller", "headers", "refusal")

    def __init__(
        self, door: "Door", headers: Headers, caller: str, refusal: Refusal | None, account: _Account | None
    ) -> None:
        self.headers = headers
        self.caller = caller
        self.refusal = refusal
        self._door = door
        self._account = account

    def __enter__(self) -> "Entry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._account is not None:
            self._account.open -= 1
            self._door.open -= 1


class Door:
    """Where every request of the data port passes, while the policy has a section `callers`. open: how many
    are in."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_refusal: Told = lambda why, caller: None,
    ) -> None:
        self.open = 0
        self._environ = environ
        self._clock = clock
        self._on_refusal = on_refusal
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._keys: tuple[CallersPolicy | None, Keys] = (None, Keys((), ()))

    def use(self, callers: CallersPolicy) -> None:
        """Read the keys that a policy names. Raises PolicyError for one that is missing or too short."""
        self._keys = (callers, read_keys(callers, self._environ, clock=self._clock))

    def enter(self, callers: CallersPolicy, scope: Scope) -> Entry:
        """Let a request in, or say why not."""
        headers: Headers = scope["headers"]
        own = (callers.header.encode(), (callers.mtls_name_header or "").encode())
        kept = [(name, value) for name, value in headers if name not in own]
        peer = _peer(scope)
        is_proxy = _among(peer, callers.proxies)
        refusal = self._unusable(callers)
        caller = ""
        if refusal is None:
            caller, refusal = self._known(callers, headers, is_proxy)
        account, counted = None, caller
        if not caller and refusal is None:
            counted = "address:" + _counted_as(_from(headers, callers.proxies, peer) if is_proxy else peer)
        if refusal is None:
            refusal, account = self._admitted(callers, counted)
        if account is not None:
            account.open += 1
            self.open += 1
        return Entry(self, kept, caller, refusal, account)

    def _unusable(self, callers: CallersPolicy) -> Refusal | None:
        """A policy that came into force and whose keys cannot be read lets nobody in."""
        if self._keys[0] is callers:
            return None
        try:
            self.use(callers)
        except PolicyError as fault:
            self._on_refusal("keys", str(fault))
            cure = "the operator must put them in place; nothing was sent"
            return Refusal(
                503, "guardian_busy", "callers.keys", "keys that cannot be read", cure, FULL_RETRY_S
            )
        return None

    def _known(self, callers: CallersPolicy, headers: Headers, is_proxy: bool) -> tuple[str, Refusal | None]:
        """The caller's name, empty where it has none and needs none; and why it stays outside."""
        shown = [value for name, value in headers if name == callers.header.encode()]
        if callers.require != "certificate" and len(shown) == 1 and (name := self._keys[1].holder(shown[0])):
            return "key:" + name, None
        vouched = _vouched(callers, headers) if is_proxy and callers.require != "key" else ""
        if vouched:
            return "certificate:" + vouched, None
        if callers.require == "off":
            return "", None
        self._on_refusal("unknown", "")
        return "", _unknown(callers, shown)

    def _admitted(self, callers: CallersPolicy, caller: str) -> tuple[Refusal | None, _Account | None]:
        if callers.max_open_all is not None and self.open >= callers.max_open_all:
            return self._refused("all", caller, "callers", f"{self.open} open requests", FULL_RETRY_S), None
        account = self._account(caller)
        if account is None:
            return self._refused("all", caller, "callers", "too many callers at once", FULL_RETRY_S), None
        if callers.max_open is not None and account.open >= callers.max_open:
            found = f"{account.open} open requests of this caller"
            return self._refused("open", caller, "caller", found, FULL_RETRY_S), None
        if callers.pace is not None:
            now, step_s = self._clock(), callers.pace.per_s / callers.pace.count
            due = max(account.due, now)
            if due + step_s > now + callers.pace.per_s + 1e-9:
                wait_s = due + step_s - now - callers.pace.per_s
                found = f"more than {callers.pace.count} requests in {callers.pace.per_s:g} s"
                return self._refused("pace", caller, "caller", found, max(1, -int(-wait_s // 1))), None
            account.due = due + step_s
        return None, account

    def _refused(self, why: str, caller: str, field: str, found: str, retry_s: int) -> Refusal:
        self._on_refusal(why, caller)
        status = 503 if why == "all" else 429
        reason = "too_many_requests" if status == 429 else "guardian_busy"
        cure = f"send this again in {retry_s} s; nothing was sent"
        return Refusal(status, reason, field, found, cure, retry_s)

    def _account(self, caller: str) -> _Account | None:
        """What a caller has used; None for a new one while there is no room: everybody known is inside."""
        account = self._accounts.get(caller)
        if account is None:
            if len(self._accounts) >= MAX_CALLERS and not self._forget_one():
                return None
            account = self._accounts[caller] = _Account()
        else:
            self._accounts.move_to_end(caller)
        return account

    def _forget_one(self) -> bool:
        for _, (caller, account) in zip(range(LOOKED_AT), self._accounts.items(), strict=False):
            if not account.open:
                del self._accounts[caller]
                return True
        return False


class RefusalLog:
    """Counts callers that are turned away, and says so in the log: at most one line for each reason in
    LOG_EVERY_S, with how many it stands for, so that nobody can fill a disk by knocking."""

    def __init__(
        self,
        log: logging.Logger,
        count: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._count = count
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}

    def __call__(self, why: str, caller: str) -> None:
        """Count one, and tell when it is time."""
        self._count(why)
        since, count = self._told.get(why, (-LOG_EVERY_S, 0))
        if self._clock() - since < LOG_EVERY_S:
            self._told[why] = (since, count + 1)
            return
        self._told[why] = (self._clock(), 0)
        self._log.warning("callers turned away", extra={"why": why, "caller": caller, "count": count + 1})


class Keys:
    """The keys in force, as digests."""

    def __init__(
        self,
        names: Sequence[str],
        secrets: Sequence[Secret[bytes]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._named = list(zip(names, secrets, strict=True))
        self._clock = clock
        self._read()

    def holder(self, shown: bytes) -> str:
        """Whose key this is; empty for none. Takes as long for a wrong key as for any right one."""
        if self._clock() - self._read_at >= RECHECK_S:
            self._read()
        digest, holder = _digest(shown.strip()), ""
        for name, known in self._digests:
            if hmac.compare_digest(known, digest):
                holder = name
        return holder

    def _read(self) -> None:
        self._read_at = self._clock()
        self._digests = [(name, _digest(secret.get())) for name, secret in self._named]


def read_keys(
    callers: CallersPolicy, environ: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic
) -> Keys:
    """Read the keys that a policy names. Raises PolicyError for one that is missing or too short."""
    secrets = [
        Secret(one.key, environ, f"callers.keys[{place}].key", _as_key)
        for place, one in enumerate(callers.keys)
    ]
    return Keys([one.name for one in callers.keys], secrets, clock)


def _as_key(text: str) -> bytes:
    if not text.isascii() or not text.isprintable():
        raise ValueError("characters that no header may have; put in the key alone, on one line")
    if len(text) < LEAST_KEY_CHARS:
        raise ValueError(
            f"fewer than {LEAST_KEY_CHARS} characters; make a longer one, e.g. openssl rand -hex 32"
        )
    return text.encode("ascii")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _unknown(callers: CallersPolicy, shown: Sequence[bytes]) -> Refusal:
    if callers.require == "certificate":
        field = callers.mtls_name_header or ""
        found = "no client certificate that a trusted proxy vouches for"
        cure = "call through the proxy in front, with your client certificate"
    else:
        field = callers.header
        found = "no key" if not shown else "an unknown key" if len(shown) == 1 else "more than one key"
        cure = f"send the key that this guardian's operator gave you in the header {callers.header}"
    return Refusal(401, "unknown_caller", field, found, cure)


def _vouched(callers: CallersPolicy, headers: Headers) -> str:
    """The one name that the proxy gave; two of them could come from two sides."""
    if callers.mtls_name_header is None:
        return ""
    wanted = callers.mtls_name_header.encode()
    found = [value for name, value in headers if name == wanted]
    text = found[0].decode("latin-1").strip() if len(found) == 1 else ""
    return text if len(text) <= MAX_NAME_CHARS and text.isprintable() else ""


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _among(text: str, networks: Sequence[IpNetwork]) -> bool:
    address = _address(text) if networks else None
    return address is not None and any(address in network for network in networks)


def _from(headers: Headers, proxies: Sequence[IpNetwork], peer: str) -> str:
    """Whom the proxy speaks for: of x-forwarded-for the last that is no proxy of ours. What stands before
    it was written by somebody whom nobody vouches for."""
    said = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
    hops = said.rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    for hop in reversed(hops):
        address = _address(hop.strip())
        if address is None:
            return peer
        if not any(address in network for network in proxies):
            return str(address)
    return peer


def _counted_as(text: str) -> str:
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_SITE_BITS), strict=False))
    return str(address) if address else "unknown"
