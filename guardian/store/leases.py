"""What a store that only one process uses has to say about the others: leases from a dict and a clock,
and nobody to talk to. No I/O.

Leases end by themselves, so a holder that has gone silent is followed by another; the number that each
new holder gets is higher than all before, so that a late word of the earlier one can be told apart.
"""

import time
from collections.abc import Callable

from guardian.settlement.record import Settlement


class Leases:
    """Who holds what, and until when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, int, float]] = {}
        self._fence = time.time_ns() // 1000  # above those of an earlier process

    def lease(self, name: str, holder: str, ttl_s: float) -> int | None:
        """The fencing number, or None while another holds it."""
        self._drop_ended()
        who, fence, _ = self._held.get(name, ("", 0, 0.0))
        if who and who != holder:
            return None
        if not who:
            self._fence = fence = self._fence + 1
        self._held[name] = (holder, fence, self._clock() + ttl_s)
        return fence

    def resign(self, name: str, holder: str) -> None:
        """Let go; only the holder's own."""
        if name in self._held and self._held[name][0] == holder:
            del self._held[name]

    def holders(self, prefix: str) -> dict[str, str]:
        """Live leases whose name begins with prefix."""
        self._drop_ended()
        return {name: who for name, (who, _, _) in self._held.items() if name.startswith(prefix)}

    def _drop_ended(self) -> None:
        now = self._clock()
        for name in [name for name, (_, _, until) in self._held.items() if until <= now]:
            del self._held[name]


class OneProcess:
    """The part of the Store protocol that is about other processes, where there are none."""

    shared = False

    def __init__(self) -> None:
        self._leases = Leases()

    async def under_way(self, like: Settlement) -> list[Settlement]:
        """Of other processes: none."""
        return []

    async def lease(self, name: str, holder: str, ttl_s: float) -> int | None:
        return self._leases.lease(name, holder, ttl_s)

    async def resign(self, name: str, holder: str) -> None:
        self._leases.resign(name, holder)

    async def holders(self, prefix: str) -> dict[str, str]:
        return self._leases.holders(prefix)

    async def tell(self, topic: str, message: bytes) -> None:
        """Nobody hears it."""

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Nobody speaks."""

    def lost_touch(self, called: Callable[[], None]) -> None:
        """There is no touch that could be lost."""
