"""Events for webhooks in the SQLite file. Their SQL, and nothing of records."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from guardian.settlement.notice import Notice
from guardian.store.lane import Do
from guardian.store.writer import Writer

_KEEP = "INSERT INTO notice (hook, id, dead, data) VALUES (?, ?, ?, ?) ON CONFLICT (hook, id) DO NOTHING"
_OF = "SELECT data FROM notice WHERE hook = ? AND dead = ? ORDER BY seq LIMIT ?"
_PUT = "UPDATE notice SET dead = ?, data = ? WHERE hook = ? AND id = ?"
_DROP = "DELETE FROM notice WHERE hook = ? AND id = ?"
_COUNT = "SELECT count(*) FROM notice WHERE hook = ? AND dead = ?"
_HOOKS = "SELECT DISTINCT hook FROM notice ORDER BY hook"

_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Notice)


class SqliteNotices:
    """The part of a store that is about events."""

    def __init__(self, writer: Callable[[], Writer], read: Do) -> None:
        self._writer = writer
        self._read = read

    async def keep(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            await self._writer().do(partial(keep, (notice,)))

    async def waiting(self, hook: str, limit: int) -> list[Notice]:
        return await self._read(partial(_of, hook, False, limit))

    async def dead(self, hook: str, limit: int) -> list[Notice]:
        return await self._read(partial(_of, hook, True, limit))

    async def put(self, notice: Notice) -> None:
        row = (notice.dead, _encoder.encode(notice), notice.hook, notice.id)
        await self._writer().do(partial(_execute, _PUT, row), patient=True)

    async def drop(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            await self._writer().do(partial(_execute, _DROP, (notice.hook, notice.id)), patient=True)

    async def count(self, hook: str) -> tuple[int, int]:
        return await self._read(partial(_count, hook))

    async def hooks(self) -> list[str]:
        return await self._read(_hooks)


def keep(notices: Sequence[Notice], connection: sqlite3.Connection) -> None:
    """Add those that are not there yet."""
    for notice in notices:
        connection.execute(_KEEP, (notice.hook, notice.id, notice.dead, _encoder.encode(notice)))


def _execute(sql: str, values: Sequence[object], connection: sqlite3.Connection) -> None:
    connection.execute(sql, values)


def _of(hook: str, dead: bool, limit: int, connection: sqlite3.Connection) -> list[Notice]:
    return [_decoder.decode(data) for (data,) in connection.execute(_OF, (hook, dead, limit))]


def _count(hook: str, connection: sqlite3.Connection) -> tuple[int, int]:
    (waiting,), (dead,) = (connection.execute(_COUNT, (hook, flag)).fetchone() for flag in (False, True))
    return waiting, dead


def _hooks(connection: sqlite3.Connection) -> list[str]:
    return [hook for (hook,) in connection.execute(_HOOKS)]
