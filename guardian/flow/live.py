"""One open settlement in this process: its record, who waits for it, and the lock round its moves.

Every move is decided by the tables in `settlement/`, written to the store first, and only then
seen by those who wait. No HTTP, no chain: facts come in, the record moves.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.flow.heard import Heard
from guardian.flow.outbox import Outbox
from guardian.flow.parts import Call, Generation, Headers, log
from guardian.settlement.purchase import is_forsaken
from guardian.settlement.record import Settlement, after_answer, after_money, attempted, noted
from guardian.settlement.states import (
    IN_DOUBT,
    MONEY,
    OPEN,
    PAID,
    UNPAID,
    Answer,
    AnswerEvent,
    Money,
    MoneyEvent,
)
from guardian.store.protocol import Store
from guardian.wire.stripped import stripped

Clock = Callable[[], float]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
"""Between two tries to record what is known while the store is away."""

MAX_CONFLICTS = 20
"""Moves of one record by others between our reading and our writing: each of them is progress."""


class Live:
    """A settlement that somebody waits for or that is not final yet.

    record: what the store holds, or will once a kept success is written; only set once `claimed`. headers:
    the caller's, kept in memory only because they may hold keys; only: the one facilitator its path named,
    or empty; unfit: those that it must not go to; generation: the policy that it began with; sent: whether
    anything has left in this process. callers: how many wait; others: those of them that came with another
    payment of the purchase; held: how many more have it in hand; sending: how many attempts are under way;
    unsent: why nothing could be sent; delivered: the success was written to a caller; heard: of attempts
    that no write has taken to the record yet.
    """

    record: Settlement

    def __init__(
        self,
        key: str,
        store: Store,
        clock: Clock,
        moved: Callable[["Live", Settlement], None] = lambda live, old: None,
        outbox: Outbox | None = None,
    ) -> None:
        """moved: told the record as it was, after each durable move; outbox: what others hear of it."""
        self.key = key
        self.claimed = False
        self.claiming = asyncio.Lock()
        self.headers: Headers = ()
        self.only = ""
        self.unfit: frozenset[str] = frozenset()
        self.generation: Generation | None = None
        self.sent = False
        self.reply_headers: Headers = ()
        self.reply_body = b""
        self.driven = False
        self.unsent: StoreUnavailable | None = None
        self.sending = 0
        self.unused_blocks = 0
        self.resends = 0
        self.callers = 0
        self.others = 0
        self.held = 0
        self.calls: list[Call] = []
        self.delivered = False
        self.heard: list[Heard] = []
        self._stored: Settlement | None = None
        self._report: dict[str, object] = {}
        self.handing_out = asyncio.Lock()
        self._store = store
        self._clock = clock
        self._moved = moved
        self._outbox = outbox
        self._moving = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    def goes_with(self, call: Call) -> None:
        """It is sent as this caller asked for it."""
        self.headers, self.only, self.generation = call.headers, call.only, call.generation

    @property
    def attended(self) -> int:
        """How many wait for this very payment: what they are told is what its record says."""
        return self.callers - self.others

    @property
    def paid(self) -> bool:
        """The money moved, by a facilitator's word or the chain's."""
        return self.record.money in PAID

    @property
    def handed_out(self) -> bool:
        """Somebody was handed the success, even if that could not be recorded yet; or nobody may be any
        more, because it was refunded or written off."""
        return self.delivered or self.record.answer is Answer.ACCEPTED or bool(self.record.closed_by)

    @property
    def unrecorded(self) -> bool:
        """A success is known that the store does not hold yet."""
        return self._stored is not None

    @property
    def forsaken(self) -> bool:
        """It is being sent, and whoever asked for it has left or was told that its outcome is not known."""
        if self.record.money is not Money.PENDING:
            return False
        left = bool(self.calls) and all(call.gone for call in self.calls)
        return left or is_forsaken(self.record)

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

        def next() -> Settlement | None:
            if event not in MONEY[self.record.money]:
                return None
            return after_money(self.record, event, now=self._clock(), note=note, **changes)

        return await self._move(next)

    def kept(self, **report: object) -> bool:
        """Keep a facilitator's success for the write that says what its caller was told: one for both.

        A crash before that write leaves what a crash before the reply would have left: a record that is
        pending, whose truth the chain knows. False where nobody waits for it, or something else is just
        being written: then it has to be recorded by itself.
        """
        record = self.record
        if not self.attended or self._moving.locked() or MoneyEvent.REPORTED_PAID not in MONEY[record.money]:
            return False
        self._report, self._stored = report, record
        self.record = self._with_report(record)
        self.wake()
        return True

    def _with_report(self, record: Settlement) -> Settlement:
        return after_money(record, MoneyEvent.REPORTED_PAID, now=self._clock(), note="", **self._report)

    async def record_kept(self) -> None:
        """Write a kept success that nobody took along."""

        def next() -> Settlement | None:
            kept = stripped(self.record.body)  # never sent again: no reason to keep the signature
            return msgspec.structs.replace(self.record, body=kept) if self.unrecorded else None

        await self._move(next)

    async def answered(self, event: AnswerEvent, note: str = "", /, **changes: object) -> None:
        """Record what a caller was told. Nothing moves once the success was handed out.

        A delivery is recorded after it went out, so nobody waits for that write.
        """

        def next() -> Settlement | None:
            if self.record.answer is Answer.ACCEPTED:
                return None
            return after_answer(self.record, event, now=self._clock(), note=note, **changes)

        await self._move(next, patient=event is AnswerEvent.DELIVERED)

    async def fact(self, name: str, note: str = "", /, **changes: object) -> None:
        """Add facts without a move, where they are news."""

        def next() -> Settlement | None:
            if all(getattr(self.record, field) == value for field, value in changes.items()):
                return self._one_more_attempt()
            return noted(self.record, name, now=self._clock(), note=note, **changes)

        await self._move(next)

    def _one_more_attempt(self) -> Settlement | None:
        """What was heard is worth a version, but no line of the audit trail where it is no news."""
        if not self.heard:
            return None
        return msgspec.structs.replace(self.record, version=self.record.version + 1, updated_at=self._clock())

    async def closed(self, close: Callable[[Settlement], Settlement]) -> None:
        """Take an orphan off the queue; raises IllegalMove where it stands there no more."""
        await self._move(lambda: close(self.record))

    async def taken_up(self, left_by: str, by: str) -> bool:
        """Have another replica drive it; False where somebody else was first.

        What was being sent is in doubt, and who was not answered has left, by the same write: nobody may
        take it in between for under way, or for paid with a caller who waits.
        """

        def next() -> Settlement | None:
            if self.record.owner != left_by:
                return None
            note = f"{left_by or 'its process'} has gone"
            now = self._clock()
            taken = noted(self.record, "taken_up", now=now, note=note, owner=by)
            if taken.money is Money.PENDING:
                why = "stopped while sending"
                taken = after_money(taken, MoneyEvent.DOUBT, now=now, note=why, tainted=True)
            if taken.answer in (Answer.NONE, Answer.HELD) and not self.attended:
                taken = after_answer(taken, AnswerEvent.LEFT, now=now, note="stopped before an answer")
            return taken

        return await self._move(next)

    async def never_sent(self, note: str) -> bool:
        """It is not going to be sent, unless somebody has begun to: it may be presented again."""

        def next() -> Settlement | None:
            if self.record.money is not Money.IDLE:
                return None
            return after_money(self.record, MoneyEvent.NOT_SENT, now=self._clock(), note=note, reopens=True)

        return await self._move(next)

    async def bound(self, to: Settlement) -> bool:
        """An earlier payment of the purchase pays for this one, which is never sent; False where another
        replica has begun to send it."""

        def next() -> Settlement | None:
            if self.record.money is not Money.IDLE:
                return None
            note = f"bound to {to.id}"
            return after_money(
                self.record, MoneyEvent.NOT_SENT, now=self._clock(), note=note, paid_by=to.key, body=b""
            )

        return await self._move(next)

    async def restart(self, fresh: Settlement) -> bool:
        """Begin again after a definitive, untainted failure; the audit trail goes on."""

        def next() -> Settlement | None:
            if self.record.tainted or self.record.money not in UNPAID:
                return None
            new = msgspec.structs.replace(
                fresh,
                version=self.record.version + 1,
                created_at=self.record.created_at,
                head=self.record.head,
                events=self.record.events,
                attempts=self.record.attempts,
                attempts_made=self.record.attempts_made,
            )
            return noted(new, "presented_again", now=self._clock())

        return await self._move(next)

    async def refresh(self) -> None:
        """Read what another replica has written."""
        async with self._moving:
            await self._read_again()

    async def _move(self, next: Callable[[], Settlement | None], *, patient: bool = False) -> bool:
        """Write the next version, decided anew where another replica's came first; False: no move."""
        async with self._moving:
            for _ in range(MAX_CONFLICTS):
                new = next()
                if new is None:
                    return False
                old, heard = self._stored or self.record, tuple(self.heard)
                if heard and not _went_well(old, new):
                    new = attempted(new, [one.attempt() for one in heard])
                notices = self._outbox.of_move(old, new) if self._outbox is not None else ()
                try:
                    await self._store.update(
                        old, new, patient=patient and old is self.record, notices=notices
                    )
                except StaleRecord:
                    await self._read_again()
                    continue
                del self.heard[: len(heard)]
                self.record, self._stored = new, None
                self.wake()
                self._moved(self, old)
                if notices and self._outbox is not None:
                    self._outbox.written(notices)
                return True
        raise StoreUnavailable(f"{self.record.id} is being moved by others all the time")

    async def _read_again(self) -> None:
        found = await self._store.get(self.key)
        if found is None or found.version <= (self._stored or self.record).version:
            return
        kept, self._stored, self.record = self.unrecorded, None, found
        if kept and MoneyEvent.REPORTED_PAID in MONEY[found.money]:  # it still counts
            self._stored = found
            self.record = self._with_report(found)
        self.wake()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def change(self, limit_s: float) -> None:
        """Wait for the next move, at most `limit_s` seconds."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.add(future)
        timer = loop.call_later(limit_s, _release, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)


def _went_well(old: Settlement, new: Settlement) -> bool:
    """Delivered at the first attempt: nobody will ask what was heard."""
    return new.answer is Answer.ACCEPTED and not old.attempts and not new.tainted


async def until_recorded(move: Callable[[], Awaitable[None]]) -> None:
    """What is known must not be lost because the store is away: try until it has been written."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await move()
        except StoreUnavailable as fault:
            log.error("the store is away; this is recorded as soon as it is back", extra={"why": str(fault)})
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _release(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
