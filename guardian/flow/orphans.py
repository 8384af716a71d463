"""Orphans leave the queue by a person's word: refunded, with the transaction, or written off, with a reason.

Nobody may be handed the success at that moment, nor ever after, so it is done under the same lease as
handing it out. What a person says of a refund is held against the chain where one is watched.
"""

import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from guardian.chain.asking import refund_fault
from guardian.errors import CannotClose, ChainUnavailable
from guardian.flow.by_hand import said, said_by
from guardian.flow.live import Live
from guardian.flow.parts import Parts, log
from guardian.flow.replicas import ALONE_S
from guardian.flow.settle import SettleFlow
from guardian.settlement.record import AGENT, Settlement, refunded, written_off
from guardian.store.protocol import Store
from guardian.wire.names import TxHash

_EVM_HASH = re.compile(r"0x[0-9a-f]{64}")
_OTHER_HASH = re.compile(r"[0-9A-Za-z_-]{16,128}")

Close = Callable[[Settlement], Settlement]
UNVERIFIED = "not checked against the chain"


class Orphans:
    """The queue of this guardian."""

    def __init__(self, parts: Parts, settle: SettleFlow) -> None:
        self._parts = parts
        self._settle = settle

    async def refund(
        self, record: Settlement, transaction: str, by: str, note: str = "", *, unverified: bool = False
    ) -> Settlement:
        """The payer has the money back. Raises CannotClose and IllegalMove."""
        hash = refund_hash(record, transaction)
        who, why = said_by(by, CannotClose), said("note", note, CannotClose)
        if unverified or not record.watched:
            why = f"{why} ({UNVERIFIED})".strip()
        else:
            await self._check(record, hash)
        close = partial(_refund, transaction=hash, by=who, note=why, now=self._parts.clock())
        return await self._close(record, close, "refunded")

    async def write_off(self, record: Settlement, reason: str, by: str) -> Settlement:
        """Nothing more is done about it. Raises CannotClose and IllegalMove."""
        return await self._close(record, write_off(reason, by, self._parts.clock()), "written_off")

    async def _check(self, record: Settlement, hash: TxHash) -> None:
        watcher = self._parts.watchers.get(record.network)
        if watcher is None:
            raise CannotClose(f"transaction: no chain of {record.network} is read here; say unverified")
        try:
            fault = await refund_fault(
                watcher.endpoints,
                hash,
                asset=record.asset,
                sender=record.pay_to,
                to=record.payer,
                amount=record.amount,
            )
        except ChainUnavailable as exc:
            raise CannotClose(f"transaction: {exc}; try again, or say unverified") from exc
        if fault:
            raise CannotClose(f"transaction: {fault}; if it is a refund all the same, say unverified")

    async def _close(self, record: Settlement, close: Close, how: str) -> Settlement:
        live = await self._settle.lives.attach(record)
        live.held += 1  # for who comes meanwhile there is one lock, too
        try:
            async with self._alone_with(live) as alone:
                if not alone or live.delivered:
                    raise CannotClose(f"{record.id} is being handed out just now; look again in a moment")
                await live.closed(close)
        finally:
            live.held -= 1
            self._settle.lives.forget(live)
        self._parts.telemetry.orphan_closed(record.network, how)
        log.info("orphan closed", extra={"settlement": record.id, "network": record.network, "how": how})
        return live.record

    @asynccontextmanager
    async def _alone_with(self, live: Live) -> AsyncIterator[bool]:
        async with live.handing_out, self._settle.replicas.only_here(lease_name(live.record)) as alone:
            if alone:
                await live.refresh()
            yield alone


def lease_name(record: Settlement) -> str:
    """What whoever hands out this success holds: a seller's is handed, an agent's presented."""
    return f"{'present' if record.plane == AGENT else 'hand'}/{record.key}"


def refund_unverified(record: Settlement, transaction: str, by: str, note: str, now: float) -> Close:
    """A refund that nobody holds against the chain. Raises CannotClose."""
    why = f"{said('note', note, CannotClose)} ({UNVERIFIED})".strip()
    hash, who = refund_hash(record, transaction), said_by(by, CannotClose)
    return partial(_refund, transaction=hash, by=who, note=why, now=now)


def write_off(reason: str, by: str, now: float) -> Close:
    """Raises CannotClose."""
    why, who = said("reason", reason, CannotClose, least=1), said_by(by, CannotClose)
    return lambda record: written_off(record, by=who, reason=why, now=now)


def _refund(record: Settlement, *, transaction: TxHash, by: str, note: str, now: float) -> Settlement:
    return refunded(record, transaction, by=by, now=now, note=note)


async def close_in_store(store: Store, id: str, close: Callable[[Settlement], Close]) -> Settlement:
    """Where no guardian runs that could be asked. Raises CannotClose, IllegalMove and StoreUnavailable."""
    found = await store.get_by_id(id)
    if found is None:
        raise CannotClose(f"ID: there is no settlement {id[:80]!r}; `guardian orphans list` shows them")
    name, me = lease_name(found), f"command/{secrets.token_hex(4)}"
    if await store.lease(name, me, ALONE_S) is None:
        raise CannotClose(f"{id} is being handed out just now; look again in a moment")
    try:
        record = await store.get(found.key) or found
        closed = close(record)(record)
        await store.update(record, closed)
        return closed
    finally:
        await store.resign(name, me)


def refund_hash(record: Settlement, transaction: str) -> TxHash:
    """A hash in its network's form; raises CannotClose."""
    given = transaction.strip()
    evm = record.network.startswith("eip155:")
    hash = given.lower() if evm else given
    if not (_EVM_HASH if evm else _OTHER_HASH).fullmatch(hash):
        form = "0x and 64 hex digits" if evm else "16 to 128 letters and digits"
        raise CannotClose(
            f"transaction: {given[:80]!r} is no transaction hash of {record.network}; give {form}"
        )
    if hash == record.transaction:
        raise CannotClose("transaction: that is the payment itself; give the hash of the transfer back")
    return TxHash(hash)
