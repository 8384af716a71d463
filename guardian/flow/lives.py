"""The open settlements of this process: found by key, kept while somebody waits or something may be learnt.

No control flow of a settle: who asks is told the one `Live` of a key, and lets it go again.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from guardian.flow.live import Live
from guardian.flow.newest import Newest
from guardian.flow.parts import Parts, log
from guardian.flow.watch import Watch, facts
from guardian.settlement.record import Settlement
from guardian.settlement.states import IN_DOUBT, Answer

ORPHANS_TOLD: Final = 4096
"""Of those that were counted and logged, the newest: each is, once, though its buyer comes again."""


class Lives:
    """All of them, by key. told: of each durable move, with the record as it was before."""

    def __init__(self, parts: Parts, watch: Watch) -> None:
        self._parts = parts
        self._watch = watch
        self._all: dict[str, Live] = {}
        self._of_payer: dict[str, dict[str, Live]] = {}
        self._orphans = Newest[str, None](ORPHANS_TOLD)
        self.told: list[Callable[[Live, Settlement], None]] = []

    def __contains__(self, key: str) -> bool:
        return key in self._all

    def __iter__(self) -> Iterator[Live]:
        """A copy: lives come and go while somebody looks at them."""
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def known(self, key: str) -> Live | None:
        """The live side of a key, if this process has one."""
        return self._all.get(key)

    def of_payer(self, payer: str) -> Iterable[Live]:
        """What this payer has open here and claimed here."""
        return self._of_payer.get(payer, {}).values()

    def claimed(self, live: Live) -> None:
        """Its record is known: from now on it is found by its payer too."""
        self._of_payer.setdefault(live.record.payer, {})[live.key] = live

    def of(self, key: str) -> Live:
        """The live side of a key, begun where there is none."""
        live = self._all.get(key)
        if live is None:
            live = self._all[key] = Live(
                key, self._parts.store, self._parts.clock, self._moved, self._parts.outbox
            )
        return live

    async def attach(self, record: Settlement) -> Live:
        """The live side of a record that the store gave."""
        live = self.of(record.key)
        live.held += 1  # while it waits, too
        try:
            async with live.claiming:
                if not live.claimed:
                    live.record, live.claimed = record, True
                    self.claimed(live)
                    live.driven = record.owner != self._parts.replica  # a repeat that comes here only waits
        finally:
            live.held -= 1
        return live

    def forget(self, live: Live) -> None:
        """Let go of what nobody waits for and nothing more can be learnt about."""
        if live.claimed:
            self._tell_of_orphan(live)
        if live.callers or live.held or live.sending or not live.claimed:
            if not live.callers and not live.held and not live.claimed:
                self._drop(live)
            return
        recorded = not live.unrecorded and (not live.delivered or live.record.answer is Answer.ACCEPTED)
        if live.final and recorded and not self._watch.watching(live.key):
            self._drop(live)

    def _drop(self, live: Live) -> None:
        if self._all.get(live.key) is not live:
            return
        del self._all[live.key]
        if live.claimed and (theirs := self._of_payer.get(live.record.payer)) is not None:
            theirs.pop(live.key, None)
            if not theirs:
                del self._of_payer[live.record.payer]

    def _moved(self, live: Live, old: Settlement) -> None:
        """Count and log what an operator wants to know of a move."""
        new = live.record
        for tell in self.told:
            tell(live, old)
        self._tell_of_orphan(live)
        if new.money in IN_DOUBT and old.money not in IN_DOUBT:
            log.warning("in doubt: the chain is asked", extra=facts(live) | {"reason": new.reason})
        if not live.callers:  # nobody else lets go of it, now or later; what moved it is not done with it yet
            asyncio.get_running_loop().call_soon(self.forget, live)

    def _tell_of_orphan(self, live: Live) -> None:
        """Once, by the process that drives it, and only when nobody waits who may yet be handed it."""
        if live.key in self._orphans or live.callers or not live.record.orphan:
            return
        if live.record.owner == self._parts.replica:
            self._orphans.put(live.key, None)
            self._parts.telemetry.orphan_found(live.record.network)
            log.warning("orphan: charged, and nobody was handed the success", extra=facts(live))
