"""Where commands read records: the running guardian's operations API, or the store file itself.

A store file belongs to one process. So the running guardian is asked first; the store is read when nothing
listens there. A --store that is named is read itself, beside the process that has it: another guardian may
be the one that listens.
"""

import asyncio
import http.client
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from guardian.errors import GuardianError
from guardian.settings import read_ops_listen, read_store

if TYPE_CHECKING:
    from guardian.store.protocol import Store

TIMEOUT_S: Final = 10.0
MAX_BYTES: Final = 64 * 1024 * 1024  # a page of a thousand records with full audit trails is a tenth
_SQLITE: Final = "sqlite:///"
_WHOSE: Final = "is it the guardian's?"
_START: Final = "start guardian serve, or name the one that runs with --ops"
_ASKER: Final = (400, 409)
"""What is wrong then is what was asked, and the answer names the field."""

View = dict[str, Any]
Offline = Callable[["Store"], Awaitable[Any]]
"""What is done in the store itself."""

T = TypeVar("T")


class NobodyListens(Exception):
    """The operations API refuses connections: no guardian runs there."""


@dataclass(frozen=True, slots=True)
class Records:
    """Reads records for a command. ops, store: the flags as given."""

    ops: str | None = None
    store: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def page(self, *, money: list[str], orphans: bool, limit: int) -> list[View]:
        """Newest first."""
        query = [("limit", str(limit)), *(("money", state) for state in money)]
        query += [("orphans", "true")] if orphans else []

        async def read(store: "Store") -> list[View]:
            from guardian.edge.views import settlement_view

            return [
                settlement_view(record)
                for record in await store.page(money=money, orphans=orphans, limit=limit)
            ]

        answer = self.read(f"/api/settlements?{urlencode(query)}", read)
        records = answer.get("settlements") if isinstance(answer, dict) else answer
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise GuardianError(f"--ops: {self._operations()} answers no list of settlements; {_WHOSE}")
        return records

    def one(self, id: str) -> View | None:
        """One record by id; None when there is none."""

        async def read(store: "Store") -> View | None:
            from guardian.edge.views import settlement_view

            record = await store.get_by_id(id)
            return settlement_view(record) if record else None

        answer = self.read(f"/api/settlements/{quote(id, safe='')}", read)
        if not isinstance(answer, dict | None):
            raise GuardianError(f"--ops: {self._operations()} answers no settlement; {_WHOSE}")
        return answer

    def told(self, path: str, content: object, offline: Offline | None) -> Any:
        """What the running guardian answers to a POST; `offline` does it in the store where none runs.
        None for an unknown record."""
        try:
            answer = _from_operations(self._operations(), path, content)
        except NobodyListens:
            if self.ops or offline is None:
                raise GuardianError(f"--ops: nothing listens at {self._operations()}; {_START}") from None
            return self._in_store(offline, reading=False)
        if answer is None and self.store and not self.ops and offline is not None:
            return with_store(read_store(self.environ, self.store), offline)
        return answer

    def asked(self, path: str) -> Any:
        """What the running guardian alone can say."""
        try:
            return _from_operations(self._operations(), path)
        except NobodyListens:
            raise GuardianError(f"--ops: nothing listens at {self._operations()}; {_START}") from None

    def read(self, path: str, read: Offline) -> Any:
        """What the running guardian answers to a GET; `read` reads it from the store where none runs. None
        for an unknown record."""
        if self.store and not self.ops:
            return with_store(read_store(self.environ, self.store), read, reading=True)
        try:
            return _from_operations(self._operations(), path)
        except NobodyListens:
            if self.ops:
                raise GuardianError(f"--ops: nothing listens at {self.ops}; {_START}") from None
            return self._in_store(read, reading=True)

    def _in_store(self, script: Offline, *, reading: bool) -> Any:
        """What comes of a script on the store, where no guardian listens."""
        url = read_store(self.environ, self.store)
        if not self.store and (file := _missing(url)):
            cure = "name a guardian with --ops, or its store with --store"
            raise GuardianError(
                f"--ops: nothing listens at {self._operations()}; no file {file} here; {cure}"
            )
        return with_store(url, script, reading=reading)

    def _operations(self) -> str:
        return self.ops or f"http://{read_ops_listen(self.environ)}"


def _from_operations(base: str, path: str, content: object = None) -> Any:
    """The JSON of the operations API; None for 404. content: posted, where there is some. Raises
    NobodyListens or GuardianError."""
    connection = _connection(base)
    try:
        headers = {"Accept": "application/json"}
        if content is None:
            connection.request("GET", path, headers=headers)
        else:
            headers["Content-Type"] = "application/json"
            connection.request("POST", path, json.dumps(content).encode(), headers)
        reply = connection.getresponse()
        body = reply.read(MAX_BYTES)
    except ConnectionRefusedError as error:
        raise NobodyListens from error
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error)[:100] or type(error).__name__
        raise GuardianError(f"--ops: {base} gives no answer ({why}); {_WHOSE}") from error
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise GuardianError(f"--ops: {base} answers {reply.status} without JSON; {_WHOSE}") from error
    if reply.status == 404:
        return None
    if reply.status != 200:
        said = answer.get("error") or answer.get("detail") if isinstance(answer, dict) else None
        if said and reply.status in _ASKER:
            raise GuardianError(str(said)[:200])
        raise GuardianError(f"--ops: {base} answers {reply.status}: {str(said or 'no reason given')[:200]}")
    return answer


def _connection(base: str) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise GuardianError("--ops: not the URL of an operations API; write it like http://127.0.0.1:9402")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=TIMEOUT_S)


def _missing(url: str) -> str:
    """The file that a store URL names and that is not there; nothing where it is, or is none."""
    file = url.removeprefix(_SQLITE) if url.startswith(_SQLITE) else ""
    return file if file and not Path(file).exists() else ""


def with_store(
    url: str, read: Callable[["Store"], Awaitable[T]], *, reading: bool = False, new: bool = False
) -> T:
    """What comes of a script on the open store. reading: beside a guardian that uses it; new: it need not
    exist. Raises PolicyError and StoreUnavailable."""
    from guardian.store.open import open_store

    if url.startswith("memory:"):
        raise GuardianError("--store: a memory store lives in its process only; ask it with --ops")
    if not new and url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists():
        raise GuardianError(
            f"--store: there is no file {url.removeprefix(_SQLITE)}; name another with --store"
        )

    async def run() -> T:
        store = open_store(url, reading=reading)
        await store.open()
        try:
            return await read(store)
        finally:
            await store.close()

    return asyncio.run(run())
