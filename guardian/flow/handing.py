"""What a caller is told of a payment, and that its success is handed to one of them (law 4).

Decides nothing about the money: a record comes in as it stands, an answer goes out, and the record says
what was told. Who is waited for, and how long, stands in `settle.py`.
"""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType

from guardian.errors import ChainUnavailable, StoreUnavailable
from guardian.flow import answers
from guardian.flow.live import Live, until_recorded
from guardian.flow.parts import Call, Parts
from guardian.flow.replicas import Replicas
from guardian.flow.signatures import Signatures
from guardian.settlement.purchase import pays_for
from guardian.settlement.states import AnswerEvent, Money
from guardian.wire.payment import Payment
from guardian.wire.stripped import stripped


class Handing:
    """Answers the callers of /settle."""

    def __init__(self, parts: Parts, signatures: Signatures, replicas: Replicas) -> None:
        self._parts = parts
        self._signatures = signatures
        self._replicas = replicas

    async def answer(self, live: Live, payment: Payment, call: Call) -> None:
        """Tell a caller what is known now, and record that it was told."""
        if call.gone:
            return await self._left(live)
        if live.paid or live.handed_out:
            return await self._hand_out(live, payment, call)
        if live.final:
            await call.answer(200, live.reply_headers, answers.failure(live.record))
            return await self._told(live, AnswerEvent.TOLD_FAILURE)
        await self._not_known(live, call, "the hold is over")

    async def refuse_as_taken(self, live: Live, call: Call) -> None:
        """What was, or may be, paid to another payee or for less buys nothing here; nothing was sent."""
        self._parts.telemetry.duplicate(live.record.network)
        await call.answer(200, (), answers.taken(live.record))

    async def delivered(self, live: Live, note: str = "", **changes: object) -> None:
        """It was handed out: nobody else gets it, and the record says so as soon as it can."""
        live.delivered = True
        await self._told(live, AnswerEvent.DELIVERED, note, body=b"", **changes)

    def alone_with(self, live: Live) -> AbstractAsyncContextManager[bool]:
        """Nobody else hands out this success meanwhile, here or at another replica; False: it may be."""
        return _AloneHere(live.handing_out) if self._replicas.alone else self._alone_everywhere(live)

    async def _hand_out(self, live: Live, payment: Payment, call: Call) -> None:
        """The success, to exactly one caller with a proven signature. That is looked at first: a node may
        take longer than the lease by which the other replicas are kept away."""
        try:
            proven = live.handed_out or await self._signatures.proven(live.record, payment)
            async with self.alone_with(live) as alone:
                await self._hand_out_alone(live, payment, call, alone=alone, proven=proven)
        except ChainUnavailable:  # nothing speaks against it: it may come again
            await self._not_known(live, call, "no node can tell whose signature it is")
        except StoreUnavailable:  # who else may have it is not known, and it may have been sent
            await self._not_known(live, call, "the store is away")

    async def _hand_out_alone(
        self, live: Live, payment: Payment, call: Call, *, alone: bool, proven: bool
    ) -> None:
        if alone and not (live.paid or live.handed_out):  # taken up meanwhile, and in doubt there
            return await self._not_known(live, call, "another replica has it in doubt")
        if not pays_for(live.record, payment):  # begun again meanwhile, with other terms
            return await self.refuse_as_taken(live, call)
        if not alone or live.handed_out:
            self._parts.telemetry.duplicate(live.record.network)
            await call.answer(200, (), answers.duplicate(live.record))
        elif not proven:
            await self._unproven(live, call)
        elif await call.answer(200, live.reply_headers, answers.success(live.record, live.reply_body)):
            await self.delivered(live)
        else:
            await self._left(live)

    async def _unproven(self, live: Live, call: Call) -> None:
        """Paid, and nothing shows that this caller's payload is the payer's: it gets nothing, and the payment
        is listed as one that nobody got unless somebody else waits for it."""
        await call.answer(200, (), answers.unproven(live.record))
        if live.attended <= 1:
            await self._told(live, AnswerEvent.TOLD_FAILURE, "the signature is not proven")

    async def _not_known(self, live: Live, call: Call, why: str) -> None:
        told = AnswerEvent.TOLD_PENDING if live.record.hint else AnswerEvent.TOLD_FAILURE
        if live.record.money is Money.PENDING:  # whoever is told that may sign anew at once, elsewhere
            await self._told(live, told, why)
            await call.answer(200, (), answers.pending(live.record))
        else:
            await call.answer(200, (), answers.pending(live.record))
            await self._told(live, told, why)

    async def _left(self, live: Live) -> None:
        if live.attended <= 1:
            kept = {"body": stripped(live.record.body)} if live.paid else {}
            await self._told(live, AnswerEvent.LEFT, "", **kept)

    async def _told(self, live: Live, event: AnswerEvent, note: str = "", **changes: object) -> None:
        """Record what a caller was told, as soon as the store can: what nobody was handed must be listed."""
        try:
            await live.answered(event, note, **changes)
        except StoreUnavailable:
            again = functools.partial(live.answered, event, note, **changes)
            self._parts.tasks.spawn(until_recorded(again), "told")

    @asynccontextmanager
    async def _alone_everywhere(self, live: Live) -> AsyncIterator[bool]:
        async with live.handing_out, self._replicas.only_here(f"hand/{live.key}") as alone:
            if alone:
                await live.refresh()
            yield alone


class _AloneHere(AbstractAsyncContextManager[bool]):
    """A lock that says yes: what being alone amounts to while no other process uses the store."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> bool:
        await self._lock.acquire()
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
