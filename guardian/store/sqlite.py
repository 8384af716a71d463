"""The embedded store: one SQLite file, one connection that writes, one that reads.

SQL of the record lives here; transactions in writer.py, threads in lane.py, the file itself in
schema.py. Every write makes one writing statement at most, and does everything else that can fail
before it.
"""

import asyncio
import os
import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.settlement.notice import Notice
from guardian.settlement.purchase import blocks, is_disposable
from guardian.settlement.record import Settlement
from guardian.settlement.states import Money
from guardian.store.lane import Reader, T, Work, unavailable
from guardian.store.leases import OneProcess
from guardian.store.protocol import PAGE_LIMIT, Claim, Condition, Scanned, Unreadable
from guardian.store.schema import (
    OPEN,
    UNSETTLED,
    Files,
    check_readable,
    connect_reader,
    connect_writer,
    lock_file,
    look_at_file,
    real_path,
    refuse_foreign,
)
from guardian.store.sqlite_ledger import SqliteLedger
from guardian.store.sqlite_notices import SqliteNotices, keep
from guardian.store.writer import Writer
from guardian.wire.names import Address, Network, public_id

PRUNE_LIMIT = 1_000
"""Records looked at per prune job: the writer must not keep payments waiting for housekeeping."""

_INSERT = "INSERT INTO settlement VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING"
# All but what never changes in a record's life (key, id, created_at): one that is presented again after
# a failure may name another purchase.
_UPDATE = (
    "UPDATE settlement SET version = ?, money = ?, answer = ?, network = ?, payer = ?, pay_to = ?,"
    " asset = ?, amount = ?, updated_at = ?, watched = ?, chain_proven = ?, data = ?, body = ?,"
    " closed = ? WHERE id = ? AND version = ?"
)
_CREATED_AT = 10
"""Its place in a row."""

_BY_ID = "SELECT data, body FROM settlement WHERE id = ?"
# No limit: it may not miss the one that blocks, and blocking itself keeps the list short.
_BY_PURCHASE = (
    "SELECT data, body FROM settlement INDEXED BY settlement_unsettled WHERE payer = ? AND pay_to = ?"
    f" AND amount = ? AND asset = ? AND network = ? AND {UNSETTLED} ORDER BY created_at, rowid"
)
_BEHIND = "SELECT rowid, key, data, body FROM settlement WHERE rowid > ? ORDER BY rowid LIMIT ?"
_OPEN_RECORDS = (
    f"SELECT data, body FROM settlement INDEXED BY settlement_open WHERE {OPEN} ORDER BY created_at, rowid"
)
_OLD = (
    "SELECT rowid, data, body FROM settlement WHERE created_at < :before AND updated_at < :before"
    " AND (money IN ('failed', 'failed_orphaned')"
    " AND (answer <> 'accepted' OR json_extract(data, '$.paid_by') <> '')"
    " OR money IN ('confirmed', 'confirmed_late') AND (answer = 'accepted' OR closed = 1)"
    " AND (chain_proven = 1 OR watched = 0)) ORDER BY created_at LIMIT :limit"
)
_DELETE = "DELETE FROM settlement WHERE rowid IN (SELECT value FROM json_each(?))"
_BEAT = "UPDATE heartbeat SET beats = beats + 1"

NOT_OPEN = "the store is not open"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Settlement)


class SqliteStore(OneProcess):
    """A store in one file, for one process."""

    def __init__(self, path: str | os.PathLike[str], *, reading: bool = False) -> None:
        """reading: only that, beside the process that owns the file."""
        super().__init__()
        self._path = Path(path)
        self._reading = reading
        self._lock: int | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self.notices = SqliteNotices(self._write, self._read_with)
        self.ledger = SqliteLedger(self._write_with, self._read_with)

    async def open(self) -> None:
        self._path = await asyncio.to_thread(real_path, self._path)
        if self._reading:
            await asyncio.to_thread(check_readable, self._path)
        else:
            await asyncio.to_thread(refuse_foreign, self._path)
            self._lock = await asyncio.to_thread(lock_file, self._path)
        try:
            if not self._reading:
                writing = await asyncio.to_thread(connect_writer, self._path)
                self._writer = Writer("guardian-store-write", writing, Files(self._path).check)
            reading = await asyncio.to_thread(connect_reader, self._path)
            self._reader = Reader("guardian-store-read", reading)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        for lane in (self._reader, self._writer):
            if lane is not None:
                await lane.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def ping(self) -> None:
        await self._write().do(_beat)

    async def claim(self, new: Settlement) -> Claim:
        return await self._write().do(partial(_claim, new, _row(new)))

    async def update(
        self, old: Settlement, new: Settlement, *, patient: bool = False, notices: Sequence[Notice] = ()
    ) -> None:
        values = _row(new)
        row = (*values[2:_CREATED_AT], *values[_CREATED_AT + 1 :], old.id, old.version)
        work = partial(_update_telling, row, old, notices) if notices else partial(_update, row, old)
        await self._write().do(work, patient=patient)

    async def get(self, key: str) -> Settlement | None:
        return await self.get_by_id(public_id(key))

    async def get_by_id(self, id: str) -> Settlement | None:
        found = await self._read(_BY_ID, (id,))
        return found[0] if found else None

    async def open_records(self) -> list[Settlement]:
        return await self._read(_OPEN_RECORDS, ())

    async def of_purchase(
        self, network: Network, payer: Address, pay_to: Address, asset: Address, amount: int
    ) -> list[Settlement]:
        return await self._read(_BY_PURCHASE, (payer, pay_to, str(amount), asset, network))

    async def page(
        self,
        *,
        money: Sequence[str] = (),
        orphans: bool = False,
        limit: int = 100,
        before: float | None = None,
    ) -> list[Settlement]:
        sql, values = _page_query([str(state) for state in money], orphans, before)
        return await self._read(sql, (*values, max(0, min(limit, PAGE_LIMIT))))

    async def prune(self, before: float, limit: int) -> int:
        return await self._write().do(partial(_prune, before, max(0, min(limit, PRUNE_LIMIT))), long=True)

    async def scan(self, after: str, limit: int) -> Scanned:
        return await self._read_with(partial(_scan, int(after or 0), max(1, min(limit, PAGE_LIMIT))))

    async def disagreements(self, records: Sequence[Settlement]) -> list[str]:
        return await self._read_with(partial(_disagreements, [record.id for record in records]))

    async def condition(self) -> Condition:
        await self._read_with(_nothing)  # raises where it is closed; a long look has its own connection
        return await asyncio.to_thread(look_at_file, self._path)

    def _write(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable("the store is open for reading only" if self._reader else NOT_OPEN)
        return self._writer

    async def _write_with(self, work: Work[T]) -> T:
        return await self._write().do(work)

    async def _read(self, sql: str, values: Sequence[object]) -> list[Settlement]:
        return await self._read_with(partial(_select, sql, values))

    async def _read_with(self, work: Work[T]) -> T:
        if self._reader is None:
            raise StoreUnavailable(NOT_OPEN)
        return await self._reader.do(work)


def _claim(new: Settlement, row: tuple[object, ...], connection: sqlite3.Connection) -> Claim:
    purchase = (new.payer, new.pay_to, str(new.amount), new.asset, new.network)
    found = connection.execute(_BY_PURCHASE, purchase).fetchall()
    blocking = [other for other in _decode(found) if blocks(other, new)] if found else ()
    if blocking and new.money is not Money.IDLE:
        new = msgspec.structs.replace(new, money=Money.IDLE)
        row = _row(new)
    if connection.execute(_INSERT, row).rowcount:
        return Claim(new, created=True, blocking=blocking)
    (known,) = _select(_BY_ID, (new.id,), connection)
    if known.key != new.key:
        raise StoreUnavailable(f"{new.id} is the id of another payment: {known.key}")
    return Claim(known, created=False)


def _update(row: tuple[object, ...], old: Settlement, connection: sqlite3.Connection) -> None:
    if not connection.execute(_UPDATE, row).rowcount:
        raise StaleRecord(f"{old.id} is no longer at version {old.version}")


def _update_telling(
    row: tuple[object, ...], old: Settlement, notices: Sequence[Notice], connection: sqlite3.Connection
) -> None:
    """Two writes, so with a savepoint: whatever fails, nothing of it stays behind."""
    connection.execute("SAVEPOINT telling")
    try:
        _update(row, old, connection)
        keep(notices, connection)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO telling")
            connection.execute("RELEASE telling")
        raise
    connection.execute("RELEASE telling")


def _prune(before: float, limit: int, connection: sqlite3.Connection) -> int:
    old = connection.execute(_OLD, {"before": before, "limit": limit}).fetchall()
    # The rule itself has the last word, whatever the query let through.
    rows = [rowid for rowid, *row in old if is_disposable(*_decode([row]))]
    return connection.execute(_DELETE, (_encoder.encode(rows).decode(),)).rowcount


def _nothing(connection: sqlite3.Connection) -> None: ...


def _beat(connection: sqlite3.Connection) -> None:
    connection.execute(_BEAT)


def _select(sql: str, values: Sequence[object], connection: sqlite3.Connection) -> list[Settlement]:
    return _decode(connection.execute(sql, values))


def _scan(after: int, limit: int, connection: sqlite3.Connection) -> Scanned:
    found = connection.execute(_BEHIND, (after, limit)).fetchall()
    records: list[Settlement | Unreadable] = []
    for _, key, *row in found:
        try:
            records += _decode([row])
        except msgspec.MsgspecError as fault:
            records.append(Unreadable(str(key), str(fault)))
    return records, str(found[-1][0]) if len(found) == limit else ""


def _disagreements(ids: Sequence[str], connection: sqlite3.Connection) -> list[str]:
    """The indexes go by the columns, and those must say what the record says."""
    said: list[str] = []
    for id in ids:
        for row in connection.execute("SELECT * FROM settlement WHERE id = ?", (id,)):
            *columns, data, body, closed = row
            (record,) = _decode([(data, body)])
            *should, _, _, should_close = _row(record)
            if [*columns, closed] != [*should, should_close]:
                said.append(f"{record.id}: the columns of its row do not say what the record says")
    return said


def _page_query(money: Sequence[str], orphans: bool, before: float | None) -> tuple[str, list[object]]:
    """SQL and values of a page, without its limit."""
    table, conditions, values = "settlement", ["1"], list[object]()
    if orphans:
        table += " INDEXED BY settlement_unsettled"
        conditions.append(UNSETTLED)
        conditions.append("money IN ('confirmed', 'confirmed_late')")
        conditions.append("answer IN ('refused', 'abandoned', 'pending')")
    if money:
        conditions.append(f"money IN ({','.join('?' * len(money))})")
        values.extend(money)
    if before is not None:
        conditions.append("created_at < ?")
        values.append(before)
    where = " AND ".join(conditions)
    return (
        f"SELECT data, body FROM {table} WHERE {where} ORDER BY created_at DESC, rowid DESC LIMIT ?",
        values,
    )


def _row(record: Settlement) -> tuple[object, ...]:
    return (
        record.key,
        record.id,
        record.version,
        record.money._value_,  # `value` is a descriptor that costs as much as the rest of the row
        record.answer._value_,
        record.network,
        record.payer,
        record.pay_to,
        record.asset,
        str(record.amount),
        record.created_at,
        record.updated_at,
        record.watched,
        record.chain_proven,
        _encode(record),
        record.body,
        bool(record.closed_by),
    )


def _encode(record: Settlement) -> bytes:
    try:
        return _encoder.encode(msgspec.structs.replace(record, body=b"") if record.body else record)
    except (ValueError, TypeError) as exc:  # text that is no Unicode: it cannot be recorded
        raise unavailable(exc) from exc


def _decode(rows: Iterable[Sequence[bytes]]) -> list[Settlement]:
    records = ((_decoder.decode(data), body) for data, body in rows)
    return [msgspec.structs.replace(record, body=body) if body else record for record, body in records]
