"""How much one facilitator is given at once: a pace for its requests, a cap on its settles.

`async with turns.turn(network, operation, deadline)` waits for leave to send and gives it back. A turn
that does not come before the deadline is NotSent: nothing has left, another facilitator may be asked.
Whoever came first goes first. A facilitator without pace and cap costs next to nothing here. No HTTP;
the clock is handed in.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol

from guardian.errors import NotSent
from guardian.policy.units import Pace

MAX_WAITING = 10_000
"""In one queue; more would wait longer than a caller is held, and each holds its request in memory."""

STEPS_PER_PERIOD = 1_000
"""Requests closer together than this part of a period come back as one: memory for any pace is bounded."""

LONGEST_NAP_S = 1.0
"""Whoever waits for the pace looks at it again after this: a policy read anew may have changed it."""


class Turn(Protocol):
    """Leave to send, from entering to leaving; raises NotSent when it does not come in time."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Turns:
    """The pace and the caps of one facilitator; both may be set anew while requests are under way."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.max_settles: int | None = None
        self.pacer: _Pacer | None = None
        self._gates: dict[str, _Gate] = {}

    def set(self, max_settles: int | None, pace: Pace | None) -> None:
        """From now on; what is under way counts on, and a wider cap lets waiters in at once."""
        self.max_settles = max_settles
        for gate in list(self._gates.values()):
            gate.set(max_settles)
        if pace is None:
            self.pacer = None
        elif self.pacer is None:
            self.pacer = _Pacer(pace, self.clock)
        else:
            self.pacer.pace = pace

    def turn(self, network: str, operation: str, deadline: float) -> Turn:
        """A turn to be entered once; `deadline` in the clock's seconds bounds the waiting only.

        Every operation counts for the pace, only /settle for the cap.
        """
        capped = self.max_settles is not None and operation == "settle"
        if not capped and self.pacer is None:
            return FREE
        return _Turn(self, network if capped else None, deadline)

    def gate(self, network: str) -> "_Gate":
        """Networks are named by callers: a gate is kept only while somebody is in it or before it."""
        gate = self._gates.get(network)
        if gate is None:
            gate = self._gates[network] = _Gate(self.max_settles, partial(self._gates.pop, network, None))
        return gate


class _Free:
    """Every turn of a facilitator without limits."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


FREE: Turn = _Free()


class _Turn:
    """First a place within the cap, then the pace: what the pace lets start leaves at once."""

    __slots__ = ("_deadline", "_gate", "_network", "_turns")

    def __init__(self, turns: Turns, network: str | None, deadline: float) -> None:
        self._turns = turns
        self._network = network
        self._deadline = deadline
        self._gate: _Gate | None = None

    async def __aenter__(self) -> None:
        turns, gate = self._turns, None
        if self._network is not None:
            gate = turns.gate(self._network)
            if not gate.enter_now():
                await gate.enter(self._deadline - turns.clock())
        pacer = turns.pacer
        if pacer is not None and not pacer.start_now():
            try:
                await pacer.start(self._deadline)
            except BaseException:
                if gate is not None:
                    gate.leave()
                raise
        self._gate = gate

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gate is not None:
            self._gate.leave()


class _Gate:
    """So many at a time on one network; `on_idle` when nobody is in it or before it any more."""

    __slots__ = ("_inside", "_limit", "_on_idle", "_waiting")

    def __init__(self, limit: int | None, on_idle: Callable[[], object]) -> None:
        self._limit = limit
        self._on_idle = on_idle
        self._inside = 0
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    def set(self, limit: int | None) -> None:
        self._limit = limit
        self._let_in()

    def enter_now(self) -> bool:
        """Enter if there is room; then nobody waits, because every room is handed on at once."""
        if not self._has_room():
            return False
        self._inside += 1
        return True

    async def enter(self, longest_s: float) -> None:
        """Wait for room; whoever leaves hands the place on, so that nobody can come in between."""
        if longest_s <= 0 or len(self._waiting) >= MAX_WAITING:
            raise NotSent("busy: as many settles as the policy allows here are under way")
        place = asyncio.get_running_loop().create_future()
        self._waiting[place] = None
        try:
            async with asyncio.timeout(longest_s):
                await place
        except BaseException as fault:
            self._give_back(place)
            if isinstance(fault, TimeoutError):
                raise NotSent("busy: no other settle ended here in time") from fault
            raise

    def leave(self) -> None:
        self._inside -= 1
        self._let_in()
        if not self._inside and not self._waiting:
            self._on_idle()

    def _has_room(self) -> bool:
        return self._limit is None or self._inside < self._limit

    def _let_in(self) -> None:
        while self._waiting and self._has_room():
            place, _ = self._waiting.popitem(last=False)
            if not place.done():
                self._inside += 1
                place.set_result(None)

    def _give_back(self, place: "asyncio.Future[None]") -> None:
        """The place may have been handed over in the very turn of the loop that ended the waiting."""
        if place.done() and not place.cancelled():
            self.leave()
        else:
            self._waiting.pop(place, None)


@dataclass(slots=True)
class _Taken:
    """Tokens taken within one step; all of them come back with the last one."""

    first: float
    last: float
    number: int = 1


class _Pacer:
    """A bucket of `count` tokens, each of which comes back `per_s` after it was taken.

    So no `per_s` seconds, wherever they begin, see more than `count` starts: a facilitator that limits
    by window or by bucket has no reason to refuse. A bucket that fills steadily lets twice as many pass.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self.pace = pace
        self._clock = clock
        self._taken: deque[_Taken] = deque()
        self._out = 0
        self._waiting = 0
        self._head = asyncio.Lock()

    def start_now(self) -> bool:
        """Take a token if there is one and nobody came before."""
        return not self._waiting and self._take(self._clock())

    async def start(self, deadline: float) -> None:
        """Wait for a token; refused at once when it is plain that none comes in time."""
        now = self._clock()
        if self._waiting >= MAX_WAITING or self._ready_at(now, self._waiting) > deadline:
            raise NotSent("busy: the pace that the policy sets allows no further request in time")
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - now), self._head:
                while not self._take(self._clock()):
                    left_s = self._ready_at(now, 0) - self._clock()
                    await asyncio.sleep(min(left_s, LONGEST_NAP_S))
        except TimeoutError as fault:
            raise NotSent("busy: the pace that the policy sets allowed no further request in time") from fault
        finally:
            self._waiting -= 1

    def _take(self, now: float) -> bool:
        taken, per_s = self._taken, self.pace.per_s
        while taken and taken[0].last + per_s <= now:
            self._out -= taken.popleft().number
        if self._out >= self.pace.count:
            return False
        self._out += 1
        if taken and now - taken[-1].first < per_s / STEPS_PER_PERIOD:
            taken[-1].last = now
            taken[-1].number += 1
        else:
            taken.append(_Taken(now, now))
        return True

    def _ready_at(self, now: float, before: int) -> float:
        """When a token comes back that is not for one of the `before` who came before.

        Those who wait take the free tokens first, then those that are out, oldest first, and then the
        same ones again, a period later.
        """
        place = before - (self.pace.count - self._out)
        rounds = max(0, -(-(place - self._out + 1) // self.pace.count))
        place -= rounds * self.pace.count
        ready = now
        for step in self._taken:
            if place < 0:
                break
            ready = step.last + self.pace.per_s
            place -= step.number
        return ready + rounds * self.pace.per_s
