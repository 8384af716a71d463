"""A Redis store URL as an address: which servers, how to log in, what is demanded of them. No I/O.

    redis://[user[:password]@]host[:port][/db][?options]
    redis+sentinel://[user[:password]@]host[:port],host[:port]/service[/db][?options]
    redis+cluster://[user[:password]@]host[:port],host[:port][?options]

`rediss` instead of `redis` means TLS, whose certificate and host name are always verified. No message
here holds a part of the URL that may be secret.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from guardian.errors import PolicyError

REDIS_PORT = 6379
SENTINEL_PORT = 26379
SERVERS_LIMIT = 32
"""Named servers; the others of a Cluster are learnt from these."""

TIMEOUT_S = 5.0
"""The longest a caller waits for one operation, attempts and a failover's first seconds included."""

_CURE = (
    "write redis://host:6379/0, redis+sentinel://host1:26379,host2:26379/service/0"
    " or redis+cluster://host1:6379,host2:6379 (rediss… for TLS)"
)


class Topology(StrEnum):
    """What stands at the address."""

    SINGLE = "redis"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Durability(StrEnum):
    """What is demanded of the server's append-only file, the weakest that passes without a word."""

    DEFAULT = ""  # an append-only file; fsync every second is accepted with a warning
    ALWAYS = "always"
    EVERYSEC = "everysec"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Everything a store URL says. wait: replicas that must have each write before it counts."""

    topology: Topology
    servers: tuple[tuple[str, int], ...]
    service: str = ""
    db: int = 0
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    sentinel_password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    prefix: str = "guardian"
    durability: Durability = Durability.DEFAULT
    wait: int = 0
    timeout_s: float = TIMEOUT_S


SCHEMES: dict[str, tuple[Topology, bool]] = {
    "redis": (Topology.SINGLE, False),
    "rediss": (Topology.SINGLE, True),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}


def read_redis_url(url: str) -> RedisAddress:
    """The address in a store URL; raises PolicyError with the cure."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refused("not a URL") from None
    topology, tls = SCHEMES.get(parts.scheme, (None, False))
    if topology is None:
        raise _refused("not a Redis URL")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    service, db = _path(topology, parts.path)
    port = SENTINEL_PORT if topology is Topology.SENTINEL else REDIS_PORT
    options = _options(parts.query)
    if password and "password_file" in options:
        raise _refused("a password and a password_file; keep one")
    if options.get("wait") and topology is Topology.CLUSTER:
        raise PolicyError("store: wait= is not for a Cluster; set min-replicas-to-write on its nodes")
    return RedisAddress(
        topology,
        tuple(_server(host, port) for host in _hosts(topology, hosts)),
        service=service,
        db=db,
        tls=tls,
        user=unquote(user),
        password=unquote(password),
        **options,
    )


def _hosts(topology: Topology, hosts: str) -> list[str]:
    named = hosts.split(",")
    if topology is Topology.SINGLE and len(named) != 1:
        raise _refused("several hosts, but neither +sentinel nor +cluster")
    if len(named) > SERVERS_LIMIT:
        raise _refused(f"more than {SERVERS_LIMIT} hosts")
    return named


def _server(text: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port` or `[IPv6]:port`."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?", text)
    port = int(match[3]) if match and match[3] else default_port
    if match is None or not 0 < port <= 65535:
        raise _refused("a host that is not host:port")
    return match[1] or match[2], port


def _path(topology: Topology, path: str) -> tuple[str, int]:
    """Sentinel's service name, and the database number."""
    parts = [part for part in path.split("/") if part]
    service = ""
    if topology is Topology.SENTINEL:
        if not parts:
            raise _refused("no service name after the sentinels")
        service = parts.pop(0)
    db = parts.pop(0) if parts else "0"
    if parts or not (db.isascii() and db.isdigit() and len(db) <= 3):
        raise _refused("a path that is not a database number")
    if topology is Topology.CLUSTER and int(db):
        raise _refused("a database number, which a Cluster does not have")
    return service, int(db)


def _options(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        read = _READERS.get(name)
        if read is None or name in found:
            known = ", ".join(_READERS)
            raise PolicyError(f"store: the option {name[:30]!r} is unknown or stands twice; known: {known}")
        try:
            found[_FIELDS.get(name, name)] = read(value)
        except ValueError as exc:
            raise PolicyError(f"store: the option {name}={value[:30]!r} cannot be used; {exc}") from None
    return found


def _durability(value: str) -> Durability:
    if value not in ("always", "everysec", "none"):
        raise ValueError("write always, everysec or none")
    return Durability(value)


def _wait(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) == 1):
        raise ValueError("write the number of replicas, 0 to 9")
    return int(value)


def _timeout_s(value: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?)s?", value)
    if match is None or not 0.1 <= float(match[1]) <= 120:
        raise ValueError("write seconds from 0.1 to 120, like 5s")
    return float(match[1])


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", value):
        raise ValueError("write up to 40 letters, digits, dots, dashes and underscores")
    return value


def _path_of_file(value: str) -> str:
    if not value:
        raise ValueError("name a file")
    return value


_READERS: dict[str, Callable[[str], object]] = {
    "durability": _durability,
    "wait": _wait,
    "timeout": _timeout_s,
    "prefix": _prefix,
    "password_file": _path_of_file,
    "sentinel_password_file": _path_of_file,
    "ca_file": _path_of_file,
    "cert_file": _path_of_file,
    "key_file": _path_of_file,
}
_FIELDS = {"timeout": "timeout_s"}


def _refused(what: str) -> PolicyError:
    return PolicyError(f"store: {what}; {_CURE}")
