"""What a replica does with the networks that it watches for all: take every open authorization on, or let go.

Reads the store, begins watches; what they find is applied in watch.py.
"""

from collections.abc import Collection

from guardian.flow.lives import Lives
from guardian.flow.parts import Parts
from guardian.flow.watch import Watch
from guardian.settlement.record import Settlement


class Leading:
    """The watches of this replica as its leases have them."""

    def __init__(self, parts: Parts, lives: Lives, watch: Watch) -> None:
        self._parts = parts
        self._lives = lives
        self._watch = watch

    async def lead(self, networks: Collection[str]) -> None:
        """Watch what is open on these networks, and nothing elsewhere. Again finds what is new."""
        for live in self._lives:
            if self._watch.watching(live.key) and live.record.network not in networks:
                self._watch.end(live)
                self._lives.forget(live)
        if networks:
            for record in await self._parts.store.open_records():
                if record.network in networks and not self._watch.watching(record.key):
                    await self._begin(record)

    async def watch_here(self, key: str) -> None:
        """Another replica asks for a watch."""
        record = await self._parts.store.get(key)
        if record is not None:
            await self._begin(record)

    async def _begin(self, record: Settlement) -> None:
        if record.watched and not record.chain_proven:
            live = await self._lives.attach(record)
            self._watch.begin(live)
            self._lives.forget(live)
