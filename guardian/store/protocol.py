"""What every store promises. One test suite runs over all implementations.

Every method raises StoreUnavailable when the backend cannot answer; nothing is then sent (law 10).
A method that writes returns only when the write is durable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from guardian.settlement.notice import Notice
from guardian.settlement.record import Settlement
from guardian.settlement.states import OPEN, PAID, Answer, Money
from guardian.store.ledger import Ledger
from guardian.wire.names import Address, Network

PAGE_LIMIT = 1000
"""The most records that one page gives, whatever is asked: a dashboard must not stall the reads."""


def is_open(record: Settlement) -> bool:
    """Whether open_records() gives it: its truth is not final, or its success reached nobody yet."""
    unproven = record.watched and record.money is Money.CONFIRMED and not record.chain_proven
    unanswered = record.money in PAID and record.answer in (Answer.NONE, Answer.HELD)
    return record.money in OPEN or unproven or unanswered


class Claim:
    """The outcome of a claim.

    record: what the store holds now for this key (the new one when created).
    blocking: other records of the same purchase that are in doubt, or paid and not handed out
    (law 5), oldest first; found in the same transaction as the insert. They block only a
    created record.
    """

    __slots__ = ("blocking", "created", "record")

    def __init__(self, record: Settlement, *, created: bool, blocking: Sequence[Settlement] = ()) -> None:
        self.record = record
        self.created = created
        self.blocking = tuple(blocking)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands where a record should be."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Condition:
    """How the store is. settings: of durability, by name; faults: what is wrong with it as a whole;
    doubts: what its operator should know."""

    kind: str
    schema: int
    settings: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


Scanned = tuple[Sequence[Settlement | Unreadable], str]
"""Some records, and the place behind them: "" at the end."""


class Notices(Protocol):
    """Events that are to be sent to webhooks, of each in the order in which they were kept."""

    async def keep(self, notices: Sequence[Notice]) -> None:
        """Add those that are not there yet; one that is there is left as it is."""

    async def waiting(self, hook: str, limit: int) -> list[Notice]:
        """The first of a webhook that are not dead, of one subject in their order."""
        ...

    async def dead(self, hook: str, limit: int) -> list[Notice]:
        """The first of a webhook that are not sent any more."""
        ...

    async def put(self, notice: Notice) -> None:
        """Replace it by what it is now; nothing where it was dropped."""

    async def drop(self, notices: Sequence[Notice]) -> None:
        """They have arrived, or nobody is to hear of them."""

    async def count(self, hook: str) -> tuple[int, int]:
        """How many are waiting, and how many are dead."""
        ...

    async def hooks(self) -> list[str]:
        """Every webhook that has some, by name."""
        ...


class Store(Protocol):
    """The durable record. shared: whether several processes may use it at once."""

    shared: bool

    @property
    def notices(self) -> Notices:
        """Those that `update` has kept, and others."""
        ...

    @property
    def ledger(self) -> Ledger:
        """What is counted against budgets, in the same place."""
        ...

    async def open(self) -> None:
        """Connect, create or upgrade the schema."""

    async def close(self) -> None:
        """Finish queued writes and let go; idempotent."""

    async def ping(self) -> None:
        """Prove that a write would succeed, or raise StoreUnavailable."""

    async def claim(self, new: Settlement) -> Claim:
        """Insert unless the key exists. With a blocking purchase the insert still happens, but
        with `money = idle` whatever `new.money` says: nothing may be sent for it yet."""

    async def update(
        self, old: Settlement, new: Settlement, *, patient: bool = False, notices: Sequence[Notice] = ()
    ) -> None:
        """Write `new` where the stored version is still `old.version`; else raise StaleRecord.

        notices: whose subject is the record's key, kept if and only if it is written.

        patient: nobody waits to hear of it, so a store may keep it for some milliseconds, to write it
        with others: a crash in that time loses it, as a crash just before it would have."""

    async def get(self, key: str) -> Settlement | None: ...

    async def get_by_id(self, id: str) -> Settlement | None: ...

    async def open_records(self) -> list[Settlement]:
        """Everything whose truth is not final: money open (idle, pending, unresolved, polling),
        `confirmed`, watched and without chain_proven, or paid and nobody told yet (answer none or
        held: a crash came between). Oldest first."""

    async def of_purchase(
        self, network: Network, payer: Address, pay_to: Address, asset: Address, amount: int
    ) -> list[Settlement]:
        """Records of one purchase that are in doubt, or paid and not accepted, oldest first."""

    async def under_way(self, like: Settlement) -> list[Settlement]:
        """Other records of the same purchase that settlement.purchase.is_under_way, oldest first; where no
        other process can use the store, none."""
        ...

    async def page(
        self,
        *,
        money: Sequence[str] = (),
        orphans: bool = False,
        limit: int = 100,
        before: float | None = None,
    ) -> list[Settlement]:
        """Newest first by created_at; `orphans` keeps only what is_orphan says."""

    async def prune(self, before: float, limit: int) -> int:
        """Delete at most `limit` finished records last moved before `before` (Unix seconds) and say
        how many went. What settlement.purchase.is_disposable denies stays at any age: open records,
        unproven successes on watched networks, orphans, unpaid deliveries."""
        ...

    async def scan(self, after: str, limit: int) -> Scanned:
        """Every record, some `limit` at a time: those behind the place `after`, which is "" at first.

        Nothing is missed that stands there all the time; what comes, moves or goes meanwhile may be among
        them or not, and a record may come twice."""
        ...

    async def disagreements(self, records: Sequence[Settlement]) -> list[str]:
        """What the indexes say otherwise of these records, a sentence each; nothing of those that have
        moved since they were read."""
        ...

    async def condition(self) -> Condition:
        """Look at the store as a whole; this may take a while."""
        ...

    async def lease(self, name: str, holder: str, ttl_s: float) -> int | None:
        """Take or keep a lease: its fencing number, which grows with each new holder, or None while
        another holds it. It ends by itself; the holder counts `ttl_s` from before it asked."""

    async def resign(self, name: str, holder: str) -> None:
        """Let a lease go; only the holder's own."""

    async def holders(self, prefix: str) -> dict[str, str]:
        """Live leases whose name begins with `prefix`: name → holder."""
        ...

    async def tell(self, topic: str, message: bytes) -> None:
        """To the other processes on this store: best effort, at most once."""

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Call `heard`, in the event loop, with what others tell. The topic "record" carries the key
        of every record that another process claimed or updated."""

    def lost_touch(self, called: Callable[[], None]) -> None:
        """Call it when messages may have been missed: whoever listens looks for itself then."""
