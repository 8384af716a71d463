"""How everything that is not over stands: open records and orphans, beside what the chain shows now.

Moves nothing: the watcher and the adoption do, by themselves. This is for a person who wants to know.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from guardian.chain.asking import how_they_stand
from guardian.chain.target import Target
from guardian.errors import ChainUnavailable
from guardian.flow.parts import Parts
from guardian.flow.watch import target_of
from guardian.settlement.record import Settlement
from guardian.settlement.states import OPEN, PAID, Answer
from guardian.store.protocol import PAGE_LIMIT
from guardian.wire.names import Network

MOST = PAGE_LIMIT
"""Records in one answer, of each kind; a longer queue is worked off in parts."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One record. chain: what it shows, in a few words; then: what follows."""

    record: Settlement
    chain: str
    then: str


async def look(parts: Parts, networks: Collection[str] = ()) -> list[Standing]:
    """Oldest first; of all networks where none is named. Raises StoreUnavailable."""
    found = {record.key: record for record in await parts.store.open_records()}
    found |= {record.key: record for record in await parts.store.page(orphans=True, limit=MOST)}
    wanted = [record for record in found.values() if not networks or record.network in networks]
    wanted = sorted(wanted, key=lambda record: record.created_at)[: 2 * MOST]
    chain = await _asked(parts, wanted)
    return [Standing(record, chain.get(record.key, "not watched"), _then(record)) for record in wanted]


async def _asked(parts: Parts, records: Iterable[Settlement]) -> dict[str, str]:
    targets: dict[Network, list[Target]] = {}
    for record in records:
        if record.watched:
            targets.setdefault(record.network, []).append(
                target_of(record, hint=record.transaction or record.hint)
            )
    said: dict[str, str] = {}
    for network, wanted in targets.items():
        watcher = parts.watchers.get(network)
        try:
            if watcher is None:
                raise ChainUnavailable("the policy names no rpc any more")
            said |= await how_they_stand(watcher.endpoints, wanted)
        except ChainUnavailable as fault:
            said |= {target.key: f"no answer: {fault}" for target in wanted}
    return said


def _then(record: Settlement) -> str:
    if record.orphan:
        return "deliver, refund or write off"
    if record.money in PAID and record.answer in (Answer.NONE, Answer.HELD):
        return "is being answered; else taken up once its replica is gone"
    if record.money in OPEN and not record.watched:
        return "no chain is watched: ask the facilitator"
    return "waits for the chain's proof"
