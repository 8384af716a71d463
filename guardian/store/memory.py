"""The store without a disk: for tests and trials. It keeps every promise but durability."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import msgspec

from guardian.errors import StaleRecord, StoreUnavailable
from guardian.settlement.notice import Notice
from guardian.settlement.purchase import blocks, is_disposable, is_unsettled_purchase
from guardian.settlement.record import Settlement
from guardian.settlement.states import Money
from guardian.store.leases import OneProcess
from guardian.store.ledger import MemoryLedger
from guardian.store.protocol import PAGE_LIMIT, Claim, Condition, Scanned, is_open
from guardian.wire.names import Address, Network

_Purchase = tuple[str, str, str, str, int]


class MemoryNotices:
    """Events in a dict, in the order in which they came."""

    def __init__(self, check_open: Callable[[], None]) -> None:
        self._check_open = check_open
        self._all: dict[tuple[str, str], Notice] = {}

    def add(self, notices: Sequence[Notice]) -> None:
        """Keep, as a part of another write."""
        for notice in notices:
            self._all.setdefault((notice.hook, notice.id), notice)

    async def keep(self, notices: Sequence[Notice]) -> None:
        self._check_open()
        self.add(notices)

    async def waiting(self, hook: str, limit: int) -> list[Notice]:
        return self._of(hook, False)[:limit]

    async def dead(self, hook: str, limit: int) -> list[Notice]:
        return self._of(hook, True)[:limit]

    async def put(self, notice: Notice) -> None:
        self._check_open()
        if (notice.hook, notice.id) in self._all:
            self._all[notice.hook, notice.id] = notice

    async def drop(self, notices: Sequence[Notice]) -> None:
        self._check_open()
        for notice in notices:
            self._all.pop((notice.hook, notice.id), None)

    async def count(self, hook: str) -> tuple[int, int]:
        return len(self._of(hook, False)), len(self._of(hook, True))

    async def hooks(self) -> list[str]:
        self._check_open()
        return sorted({hook for hook, _ in self._all})

    def _of(self, hook: str, dead: bool) -> list[Notice]:
        self._check_open()
        return [notice for notice in self._all.values() if notice.hook == hook and notice.dead is dead]


class MemoryStore(OneProcess):
    """Records in a dict, in the order of their claims; gone with the process."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[str, Settlement] = {}
        self._keys_by_id: dict[str, str] = {}
        self._keys_by_purchase: dict[_Purchase, dict[str, None]] = {}
        self.notices = MemoryNotices(self._check_open)
        self._open = False
        self.ledger = MemoryLedger()

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def ping(self) -> None:
        self._check_open()

    async def claim(self, new: Settlement) -> Claim:
        self._check_open()
        held = self._records.get(new.key)
        if held is not None:
            return Claim(held, created=False)
        blocking = [other for other in self._purchase(_purchase_of(new)) if blocks(other, new)]
        if blocking:
            new = msgspec.structs.replace(new, money=Money.IDLE)
        self._records[new.key] = new
        self._keys_by_id[new.id] = new.key
        self._keys_by_purchase.setdefault(_purchase_of(new), {})[new.key] = None
        return Claim(new, created=True, blocking=blocking)

    async def update(
        self, old: Settlement, new: Settlement, *, patient: bool = False, notices: Sequence[Notice] = ()
    ) -> None:
        self._check_open()
        held = self._records.get(old.key)
        if held is None or held.version != old.version:
            raise StaleRecord(f"{old.id} is no longer at version {old.version}")
        self._records[old.key] = new
        self.notices.add(notices)
        self._leave_purchase(held)  # a payment presented again may be for another one
        self._keys_by_purchase.setdefault(_purchase_of(new), {})[new.key] = None

    async def get(self, key: str) -> Settlement | None:
        self._check_open()
        return self._records.get(key)

    async def get_by_id(self, id: str) -> Settlement | None:
        self._check_open()
        return self._records.get(self._keys_by_id.get(id, ""))

    async def open_records(self) -> list[Settlement]:
        self._check_open()
        return _oldest_first(record for record in self._records.values() if is_open(record))

    async def of_purchase(
        self, network: Network, payer: Address, pay_to: Address, asset: Address, amount: int
    ) -> list[Settlement]:
        self._check_open()
        return self._purchase((network, payer, pay_to, asset, amount))

    async def page(
        self,
        *,
        money: Sequence[str] = (),
        orphans: bool = False,
        limit: int = 100,
        before: float | None = None,
    ) -> list[Settlement]:
        self._check_open()
        found = [
            record
            for record in self._records.values()
            if (not money or record.money in money)
            and (not orphans or record.orphan)
            and (before is None or record.created_at < before)
        ]
        found.reverse()
        found.sort(key=lambda record: record.created_at, reverse=True)
        return found[: max(0, min(limit, PAGE_LIMIT))]

    async def prune(self, before: float, limit: int) -> int:
        self._check_open()
        old = _oldest_first(
            record
            for record in self._records.values()
            if record.updated_at < before and is_disposable(record)
        )[: max(0, limit)]
        for record in old:
            del self._records[record.key]
            del self._keys_by_id[record.id]
            self._leave_purchase(record)
        return len(old)

    async def scan(self, after: str, limit: int) -> Scanned:
        self._check_open()
        begin, step = int(after or 0), max(1, limit)
        found = list(islice(self._records.values(), begin, begin + step))
        return found, str(begin + step) if begin + step < len(self._records) else ""

    async def disagreements(self, records: Sequence[Settlement]) -> list[str]:
        self._check_open()
        return []

    async def condition(self) -> Condition:
        self._check_open()
        return Condition("memory", 0, doubts=("nothing here outlives the process",))

    def _leave_purchase(self, record: Settlement) -> None:
        siblings = self._keys_by_purchase[_purchase_of(record)]
        del siblings[record.key]
        if not siblings:
            del self._keys_by_purchase[_purchase_of(record)]

    def _purchase(self, purchase: _Purchase) -> list[Settlement]:
        records = (self._records[key] for key in self._keys_by_purchase.get(purchase, ()))
        return _oldest_first(record for record in records if is_unsettled_purchase(record))

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("the store is not open")


def _purchase_of(record: Settlement) -> _Purchase:
    return (record.network, record.payer, record.pay_to, record.asset, record.amount)


def _oldest_first(records: Iterable[Settlement]) -> list[Settlement]:
    return sorted(records, key=lambda record: record.created_at)
