"""The ledger of the embedded store: budgets, holds and papers in tables of the same file.

A step writes several rows, so it has a savepoint of its own: one that fails leaves nothing behind.
"""

import sqlite3
from functools import partial
from typing import Any

from guardian.store.lane import Do, T, Work
from guardian.store.ledger import (
    LISTED,
    Ask,
    Budget,
    Hold,
    Outcome,
    Swap,
    hold_in,
    release_in,
    swap_in,
)

_PUT_SUMS = (
    "INSERT INTO budget VALUES (?,?,?,?)"
    " ON CONFLICT (name) DO UPDATE SET held = excluded.held, released = excluded.released"
)
_PUT_PAPER = (
    "INSERT INTO paper VALUES (:name, :text, coalesce(:ends_at, 0)) ON CONFLICT (name)"
    " DO UPDATE SET text = :text, ends_at = coalesce(:ends_at, ends_at)"
)
_UNSETTLED = "SELECT key, token, at FROM hold WHERE settled = 0 ORDER BY at LIMIT ?"


class SqliteLedger:
    """A ledger in the file of a store. write, read: how its connections are used."""

    def __init__(self, write: Do, read: Do) -> None:
        self._write = write
        self._read = read

    async def hold(self, ask: Ask) -> Outcome:
        return await self._step(partial(_hold, ask))

    async def release(self, key: str, token: str) -> bool:
        return await self._step(partial(_release, key, token))

    async def standing(self, key: str) -> Hold | None:
        rows = await self._rows("SELECT key, token, at FROM hold WHERE key = ?", key)
        return Hold(*rows[0]) if rows else None

    async def unsettled(self, limit: int) -> list[Hold]:
        return [Hold(*row) for row in await self._rows(_UNSETTLED, limit)]

    async def settle(self, key: str) -> None:
        await self._step(partial(_settle, key))

    async def budgets(self) -> list[Budget]:
        rows = await self._rows("SELECT name, held, released, ends_at FROM budget ORDER BY name")
        return [Budget(name, int(held) - int(released), ends) for name, held, released, ends in rows]

    async def paper(self, name: str) -> str:
        rows = await self._rows("SELECT text FROM paper WHERE name = ?", name)
        return str(rows[0][0]) if rows else ""

    async def papers(self, prefix: str, after: str = "") -> dict[str, str]:
        sql = "SELECT name, text FROM paper WHERE substr(name, 1, ?) = ? AND name > ? ORDER BY name LIMIT ?"
        return dict(await self._rows(sql, len(prefix), prefix, after, LISTED))

    async def swap(self, swap: Swap, ends_at: float, now: float = 0.0) -> bool:
        return await self._step(partial(_swap, swap, ends_at, now))

    async def _step(self, work: Work[T]) -> T:
        return await self._write(partial(_saved, work))

    async def _rows(self, sql: str, *values: object) -> list[Any]:
        return await self._read(lambda connection: connection.execute(sql, values).fetchall())


def _saved(work: Work[T], connection: sqlite3.Connection) -> T:
    connection.execute("SAVEPOINT ledger")
    try:
        done = work(connection)
    except BaseException:
        if connection.in_transaction:  # SQLite ends it itself on some errors
            connection.execute("ROLLBACK TO ledger")
            connection.execute("RELEASE ledger")
        raise
    connection.execute("RELEASE ledger")
    return done


def _hold(ask: Ask, connection: sqlite3.Connection) -> Outcome:
    return hold_in(_Tables(connection), ask)


def _release(key: str, token: str, connection: sqlite3.Connection) -> bool:
    return release_in(_Tables(connection), key, token)


def _settle(key: str, connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE hold SET settled = 1 WHERE key = ?", (key,))


def _swap(swap: Swap, ends_at: float, now: float, connection: sqlite3.Connection) -> bool:
    return swap_in(_Tables(connection), swap, ends_at, now)


class _Tables:
    """The books of a ledger, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._do = connection.execute

    def hold_of(self, key: str) -> tuple[str, bytes] | None:
        found: tuple[str, bytes] | None = self._do(
            "SELECT token, ask FROM hold WHERE key = ?", (key,)
        ).fetchone()
        return found

    def put_hold(self, ask: Ask, data: bytes) -> None:
        row = (ask.key, ask.token, data, 0, ask.at, ask.ends_at)
        self._do("INSERT INTO hold VALUES (?,?,?,?,?,?)", row)

    def renew_hold(self, key: str, token: str, at: float) -> None:
        self._do("UPDATE hold SET token = ?, at = ? WHERE key = ?", (token, at, key))

    def drop_hold(self, key: str) -> None:
        self._do("DELETE FROM hold WHERE key = ?", (key,))

    def sums_of(self, budget: str) -> tuple[int, int] | None:
        found = self._do("SELECT held, released FROM budget WHERE name = ?", (budget,)).fetchone()
        return (int(found[0]), int(found[1])) if found else None

    def put_sums(self, budget: str, held: int, released: int, ends_at: float) -> None:
        self._do(_PUT_SUMS, (budget, str(held), str(released), ends_at))

    def paper_of(self, name: str) -> str:
        found = self._do("SELECT text FROM paper WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def put_paper(self, name: str, text: str, ends_at: float | None = None) -> None:
        if text:
            self._do(_PUT_PAPER, {"name": name, "text": text, "ends_at": ends_at})
        else:
            self._do("DELETE FROM paper WHERE name = ?", (name,))

    def count_papers(self) -> int:
        return int(self._do("SELECT count(*) FROM paper").fetchone()[0])

    def trim(self, now: float, limit: int) -> None:
        for table in ("hold", "budget", "paper"):
            over = f"SELECT rowid FROM {table} WHERE ends_at < ? LIMIT ?"
            self._do(f"DELETE FROM {table} WHERE rowid IN ({over})", (now, limit))
