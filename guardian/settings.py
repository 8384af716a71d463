"""How one process runs, from flags and environment, as one frozen object. No policy, no I/O.

A flag goes before its environment variable, the variable before the default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guardian.errors import PolicyError

LISTEN: Final = "127.0.0.1:8402"
OPS_LISTEN: Final = "127.0.0.1:9402"
STORE: Final = "sqlite:///guardian.db"
_LIKE: Final = {"--listen": LISTEN, "--ops-listen": OPS_LISTEN}
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
_STORES: Final = (
    *("sqlite", "memory", "redis", "rediss"),
    *("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is not policy. listen, ops_listen: `host:port` or `[IPv6]:port`, port 0 for any
    free one; log_level: as `logging` names it."""

    policy: Path
    listen: str
    ops_listen: str
    store: str
    log_level: str = "INFO"


def read_settings(
    environ: Mapping[str, str],
    *,
    policy: str | None = None,
    listen: str | None = None,
    ops_listen: str | None = None,
    store: str | None = None,
    log_level: str | None = None,
) -> Settings:
    """The settings in force; arguments are flags. Raises PolicyError naming the flag and the cure."""
    file = policy or environ.get("GUARDIAN_POLICY")
    if not file:
        raise PolicyError("--policy: missing; name a file, or set GUARDIAN_POLICY")
    settings = Settings(
        policy=Path(file),
        listen=_endpoint("--listen", listen or environ.get("GUARDIAN_LISTEN") or LISTEN),
        ops_listen=read_ops_listen(environ, ops_listen),
        store=read_store(environ, store),
        log_level=_log_level(log_level or environ.get("GUARDIAN_LOG_LEVEL") or "INFO"),
    )
    if settings.listen == settings.ops_listen and not settings.listen.endswith(":0"):
        raise PolicyError(f"--ops-listen: {settings.ops_listen} is also --listen; give each its own port")
    return settings


def read_ops_listen(environ: Mapping[str, str], ops_listen: str | None = None) -> str:
    """Where the operations API listens; raises PolicyError."""
    return _endpoint("--ops-listen", ops_listen or environ.get("GUARDIAN_OPS_LISTEN") or OPS_LISTEN)


def read_store(environ: Mapping[str, str], store: str | None = None) -> str:
    """The store's URL; raises PolicyError. The URL stays out of it: it may hold a password."""
    url = store or environ.get("GUARDIAN_STORE") or STORE
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in _STORES:
        raise PolicyError("--store: not a store URL; use sqlite:///path, redis://host:port/0 or memory://")
    if scheme == "sqlite" and not url.startswith("sqlite:///"):
        raise PolicyError("--store: a sqlite URL has three slashes before its path: sqlite:///guardian.db")
    if store and scheme.startswith("redis") and ":" in store.rpartition("@")[0].partition("//")[2]:
        raise PolicyError("--store: everybody on this machine reads a password there; use GUARDIAN_STORE")
    return url


def _endpoint(name: str, value: str) -> str:
    """`host:port`, or `[IPv6]:port`."""
    if "/" in value:
        raise PolicyError(f"{name}: {value[:60]!r} is a URL; write only host:port, like {_LIKE[name]}")
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise PolicyError(f"{name}: {value!r} has a bare IPv6 address; write [{host}]:{port}")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
    if not colon or not host or not 0 <= number <= 65535 or any(c.isspace() or c == "@" for c in host):
        raise PolicyError(f"{name}: {value[:60]!r} is not host:port; write it like {_LIKE[name]}")
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def _log_level(value: str) -> str:
    if value.upper() not in LOG_LEVELS:
        raise PolicyError(f"--log-level: {value[:20]!r} is not a level; use one of {', '.join(LOG_LEVELS)}")
    return value.upper()
