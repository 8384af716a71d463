"""From a store URL to a store that is not open yet. Nothing else lives here."""

from guardian.errors import PolicyError
from guardian.store.memory import MemoryStore
from guardian.store.protocol import Store
from guardian.store.redis_url import SCHEMES, read_redis_url
from guardian.store.sqlite import SqliteStore

_SQLITE = "sqlite:///"
_CURE = "use sqlite:///relative/path, sqlite:////absolute/path, redis://host:6379/0 or memory://"


def open_store(url: str, *, reading: bool = False) -> Store:
    """The store that a URL names; raises PolicyError. Call `await store.open()` before use.

    reading: only that; it may then be in use, and is not made or upgraded.
    """
    if url in ("memory://", "memory:"):
        return MemoryStore()
    if url.startswith(_SQLITE):
        path = url.removeprefix(_SQLITE)
        if not path or path == ":memory:":
            raise PolicyError(f"store: a sqlite URL names a file; {_CURE}")
        return SqliteStore(path, reading=reading)
    scheme = url.partition(":")[0]
    if scheme in SCHEMES:
        from guardian.store.redis import RedisStore  # its client takes a third of a second to import

        return RedisStore(read_redis_url(url), reading=reading)
    # The URL itself stays out of the message: it may hold a password.
    raise PolicyError(f"store: no store is called {scheme[:20]!r}; {_CURE}")
