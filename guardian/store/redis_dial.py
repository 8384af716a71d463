"""How a connection to Redis is made: sockets, TLS, login, sentinels. Commands are sent in redis_link.

With TLS the server's certificate and name are always verified: whoever stands between could drop the
record. Retrying is switched off here, because it is decided in one place, redis_link.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from guardian.store.redis_url import RedisAddress, Topology


class _PasswordFile(CredentialProvider):
    """Read anew for each connection, so that a rotated secret needs no restart."""

    def __init__(self, user: str, path: str) -> None:
        self._user = user
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = Path(self._path).read_text().strip()
        return (self._user, password) if self._user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await asyncio.to_thread(self.get_credentials)


class _Encrypted:
    """Connections with one context for all: making one reads hundreds of certificates from the disk."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> dict[str, Any]:
        plain: dict[str, Any] = super()._connection_arguments()  # type: ignore[misc]
        return {**plain, "ssl": self._tls}


class _TlsConnection(_Encrypted, Connection):
    pass


class _SentinelTlsConnection(_Encrypted, SentinelManagedConnection):
    pass


class Dialer:
    """Clients for one address. attempt_s: how long a socket may keep silent."""

    def __init__(self, address: RedisAddress, attempt_s: float) -> None:
        self._address = address
        self._attempt_s = attempt_s
        self._tls: ssl.SSLContext | None = None

    async def prepare(self) -> None:
        """Read the certificates; raises OSError."""
        if self._address.tls:
            self._tls = await asyncio.to_thread(_context, self._address)

    def sentinel(self) -> Sentinel | None:
        """Those who know the primary, where there are any; each is asked in its share of an attempt."""
        address = self._address
        if address.topology is not Topology.SENTINEL:
            return None
        login: dict[str, Any] = {}
        if address.sentinel_password_file:
            login["credential_provider"] = _PasswordFile("", address.sentinel_password_file)
        limit_s = self._attempt_s / (len(address.servers) + 1)
        sentinel = Sentinel([])  # type: ignore[no-untyped-call]
        sentinel.sentinels = [
            self._client(2, host=host, port=port, **self._sockets(limit_s), **login)
            for host, port in address.servers
        ]
        return sentinel

    def primary(self, sentinel: Sentinel | None, connections: int) -> Any:
        """A client of the one server, or of whichever the sentinels call the primary."""
        if sentinel is None:
            return self.server(*self._address.servers[0], connections)
        pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            self._address.service,
            sentinel,
            connection_class=_SentinelTlsConnection if self._tls else SentinelManagedConnection,
            max_connections=connections,
            check_connection=True,
            db=self._address.db,
            **({"tls": self._tls} if self._tls else {}),
            **self._login(),
            **self._sockets(self._attempt_s),
        )
        return Redis.from_pool(pool)

    def server(self, host: str, port: int, connections: int) -> Any:
        return self._client(
            connections,
            host=host,
            port=port,
            db=self._address.db,
            **self._login(),
            **self._sockets(self._attempt_s),
        )

    def cluster(self, connections: int) -> Any:
        client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self._address.servers],
            max_connections=connections,
            **self._login(),
            **self._sockets(self._attempt_s),
        )
        if self._tls:  # its own way to TLS makes a context for each connection
            client.connection_kwargs |= {"connection_class": _TlsConnection, "tls": self._tls}
            for node in client.startup_nodes:
                node.connection_class = _TlsConnection
                node.connection_kwargs["tls"] = self._tls
        return client

    def _client(self, connections: int, **options: Any) -> Any:
        if self._tls:
            options["tls"] = self._tls
        kind = _TlsConnection if self._tls else Connection
        pool = ConnectionPool(connection_class=kind, max_connections=connections, **options)
        return Redis.from_pool(pool)  # closes the pool with itself

    def _login(self) -> dict[str, Any]:
        address = self._address
        if address.password_file:
            return {"credential_provider": _PasswordFile(address.user, address.password_file)}
        return {"username": address.user or None, "password": address.password or None}

    def _sockets(self, limit_s: float) -> dict[str, Any]:
        return {
            "socket_timeout": limit_s,
            "socket_connect_timeout": limit_s,
            "socket_keepalive": True,
            "protocol": 2,
            "driver_info": None,  # one round trip less for each connection
            "retry": Retry(NoBackoff(), 0),
        }


def _context(address: RedisAddress) -> ssl.SSLContext:
    """With a ca_file only that authority is believed, else those of the system."""
    context = ssl.create_default_context(cafile=address.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.cert_file:
        context.load_cert_chain(address.cert_file, address.key_file or None)
    return context
