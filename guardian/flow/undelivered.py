"""Which agents' payments are open: by the name of their purchase, so that a 402 costs one look in memory.

Holds what the store holds, without what is sealed: filled at the start, and told of every move since,
by this process and, on a shared store, by the others. Decides nothing.
"""

import msgspec

from guardian.settlement.record import AGENT, Settlement
from guardian.settlement.states import OPEN, PAID, Answer


class Undelivered:
    """Records on the agent plane that something may still come of."""

    def __init__(self) -> None:
        self._records: dict[str, Settlement] = {}
        self._by_name: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def put(self, record: Settlement) -> None:
        """The newest version of a record; an older one than is known changes nothing."""
        if record.plane != AGENT:
            return
        known = self._records.get(record.key)
        if known is not None and known.version > record.version:
            return
        if known is not None:
            self._drop(known)  # it may have been sent on to another request
        if _is_open(record):
            self._records[record.key] = msgspec.structs.replace(record, body=b"", events=())
            for name in _names(record):
                self._by_name.setdefault(name, {})[record.key] = None

    def of(self, *names: str) -> list[Settlement]:
        """Those of a purchase, by any of its names, oldest first."""
        keys = {key: None for name in names if name for key in self._by_name.get(name, ())}
        return sorted((self._records[key] for key in keys), key=lambda record: record.created_at)

    def _drop(self, record: Settlement) -> None:
        del self._records[record.key]
        for name in _names(record):
            if (keys := self._by_name.get(name)) is not None:
                keys.pop(record.key, None)
                if not keys:
                    del self._by_name[name]


def _names(record: Settlement) -> list[str]:
    return [name for name in (record.purchase, record.payment_id) if name]


def _is_open(record: Settlement) -> bool:
    """It is watched, paid for by no other, and not over: delivered, closed, or proven never to have paid."""
    if not record.watched or record.paid_by or record.closed_by or record.answer is Answer.ACCEPTED:
        return False
    return record.money in OPEN or record.money in PAID
