"""One open settlement in this process: its record, who waits for it, and the lock round its moves.

Every move is decided by the tables in `settlement/`, written to the store first, and only then
seen by those who wait. No HTTP, no chain: facts come in, the record moves.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from guardian.errors import StoreUnavailable
from guardian.settlement.record import Settlement, after_answer, after_money, noted
from guardian.settlement.states import IN_DOUBT, MONEY, OPEN, PAID, UNPAID, Answer, AnswerEvent, MoneyEvent
from guardian.store.protocol import Store

Headers = Sequence[tuple[bytes, bytes]]
Clock = Callable[[], float]


class Live:
    """A settlement that somebody waits for or that is not final yet.

    record: what the store holds; only set once `claimed`. headers: the caller's, kept in memory
    only because they may hold keys; only: the one facilitator its path named, or empty. callers:
    how many wait; sending: how many attempts are under way; unsent: why nothing could be sent.
    """

    record: Settlement

    def __init__(
        self,
        key: str,
        store: Store,
        clock: Clock,
        moved: Callable[["Live", Settlement], None] = lambda live, old: None,
    ) -> None:
        """moved: told the record as it was, after each durable move."""
        self.key = key
        self.claimed = False
        self.claiming = asyncio.Lock()
        self.headers: Headers = ()
        self.only = ""
        self.reply_headers: Headers = ()
        self.reply_body = b""
        self.driven = False
        self.unsent: StoreUnavailable | None = None
        self.sending = 0
        self.unused_blocks = 0
        self.resends = 0
        self.callers = 0
        self.told_of_orphan = False
        self.handing_out = asyncio.Lock()
        self._store = store
        self._clock = clock
        self._moved = moved
        self._moving = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def paid(self) -> bool:
        """The money moved, by a facilitator's word or the chain's."""
        return self.record.money in PAID

    @property
    def final(self) -> bool:
        """Nothing more can be learnt that would change an answer."""
        return self.record.money not in OPEN

    @property
    def in_doubt(self) -> bool:
        """Only the chain can tell now (law 3)."""
        return self.record.money in IN_DOUBT

    async def money(self, event: MoneyEvent, note: str = "", /, **changes: object) -> bool:
        """Move by a money event where the table has that move; False where it has none.

        A fact that comes too late to matter (a reply after the chain has spoken) is no error.
        """
        async with self._moving:
            if event not in MONEY[self.record.money]:
                return False
            await self._write(after_money(self.record, event, now=self._clock(), note=note, **changes))
            return True

    async def answered(self, event: AnswerEvent, note: str = "", /, **changes: object) -> None:
        """Record what a caller was told. Nothing moves once the success was handed out."""
        async with self._moving:
            if self.record.answer is Answer.ACCEPTED:
                return
            await self._write(after_answer(self.record, event, now=self._clock(), note=note, **changes))

    async def fact(self, name: str, note: str = "", /, **changes: object) -> None:
        """Add facts without a move, where they are news."""
        async with self._moving:
            if all(getattr(self.record, field) == value for field, value in changes.items()):
                return
            await self._write(noted(self.record, name, now=self._clock(), note=note, **changes))

    async def restart(self, fresh: Settlement) -> bool:
        """Begin again after a definitive, untainted failure; the audit trail goes on."""
        async with self._moving:
            if self.record.tainted or self.record.money not in UNPAID:
                return False
            new = msgspec.structs.replace(
                fresh,
                version=self.record.version + 1,
                created_at=self.record.created_at,
                events=self.record.events,
            )
            await self._write(noted(new, "presented_again", now=self._clock()))
            return True

    async def _write(self, new: Settlement) -> None:
        await self._store.update(self.record, new)
        old, self.record = self.record, new
        self.wake()
        self._moved(self, old)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def change(self, limit_s: float) -> None:
        """Wait for the next move, at most `limit_s` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        timer = asyncio.get_running_loop().call_later(limit_s, _release, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)


def _release(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
