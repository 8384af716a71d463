"""How long a caller of /settle is kept, and what ends its wait. What it is told stands in `handing.py`."""

import asyncio
import time
from contextlib import suppress

from guardian.errors import StoreUnavailable
from guardian.flow.live import Live
from guardian.flow.parts import Parts, Visit
from guardian.settlement.states import Answer, AnswerEvent

CALLER_CHECK_S = 1.0
"""How long a departed caller may go unnoticed while it is held, where no event tells of it."""


class Holding:
    """Keeps callers. draining: nobody is kept any longer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.draining = False

    async def hold(self, live: Live, visit: Visit) -> None:
        """Keep the caller until there is an answer, the hold is over, or it has left."""
        settle = visit.in_force.settle
        visit.call.when_gone(live.wake)
        while not (_ready(live) or self.draining or visit.call.gone):
            if live.unsent:
                raise live.unsent
            if live.in_doubt and live.record.answer is Answer.NONE:
                with suppress(StoreUnavailable):  # it may have been sent: «nothing was sent» would be a lie
                    await live.answered(AnswerEvent.HOLD)
            limit_s = settle.hold_s if live.record.hint else settle.hold_without_hash_s
            left_s = visit.since + limit_s - time.monotonic()
            if left_s <= 0:
                return
            await live.change(min(left_s, CALLER_CHECK_S))
            if live.record.owner != self._parts.replica:  # its messages may get lost
                with suppress(StoreUnavailable, TimeoutError):  # a slow store makes no hold longer
                    async with asyncio.timeout(max(left_s, CALLER_CHECK_S)):
                        await live.refresh()


def _ready(live: Live) -> bool:
    record = live.record
    if live.paid:
        return record.transaction is not None or not record.watched
    if live.in_doubt and live.handed_out:  # undone by a reorganisation: it buys nothing more, whatever comes
        return True
    return live.final or (live.in_doubt and not record.watched and not live.sending)
