"""One circuit per facilitator, network and operation: pybreaker in two steps.

`admit` gives a ticket or None; `record` takes the ticket back with what the reply said about the
facilitator's health. pybreaker keeps the state, the counters and the rules of the moves; its `call`
is never used, because it holds a lock over the call, reads the wall clock, admits everyone when
half-open and counts a cancellation as health. No I/O, no asyncio: the clock is handed in.

    closed     --`failure_threshold` FAULTY in a row-->  open
    open       --admit, `recovery_time_s` later------->  half-open, with `half_open_trials` trials
    half-open  --one FAULTY-->  open      --all trials HEALTHY-->  closed
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import pybreaker

from guardian.settlement.classify import Health

MAX_CIRCUITS = 1024
"""Networks are named by callers; beyond this many, the oldest circuit is forgotten (and so closed)."""

CLOSED: str = pybreaker.STATE_CLOSED
OPEN: str = pybreaker.STATE_OPEN
HALF_OPEN: str = pybreaker.STATE_HALF_OPEN


class CircuitKey(NamedTuple):
    """What fails together: one facilitator, on one network, in one operation."""

    facilitator: str
    network: str
    operation: str


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """Leave to call once; belongs to the circuit's state at the time it was given."""

    key: CircuitKey
    generation: int
    is_trial: bool


class Circuits:
    """All circuits of a process; time in seconds of `clock`.

    A key without a circuit is closed and has never failed: only a failure makes one.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        failure_threshold: int,
        recovery_time_s: float,
        half_open_trials: int,
        on_change: Callable[[CircuitKey, str], None] = lambda key, state: None,
    ) -> None:
        self._clock = clock
        self._failure_threshold = failure_threshold
        self._recovery_time_s = recovery_time_s
        self._half_open_trials = half_open_trials
        self._on_change = on_change
        self._generation = 0
        self._circuits: dict[CircuitKey, _Circuit] = {}

    def may_admit(self, key: CircuitKey) -> bool:
        """Whether `admit` would give a ticket now; changes nothing."""
        circuit = self._circuits.get(key)
        return circuit is None or circuit.may_admit(self._clock())

    def admit(self, key: CircuitKey) -> Ticket | None:
        """Leave to call now, or None while the circuit is open or its trials are under way."""
        circuit = self._circuits.get(key)
        if circuit is None:
            return Ticket(key, 0, is_trial=False)
        return circuit.admit(self._clock())

    def record(self, ticket: Ticket, health: Health) -> None:
        """Take the ticket back; a ticket from before a change of state moves nothing."""
        circuit = self._circuits.get(ticket.key)
        if circuit is None and health is Health.FAULTY and ticket.generation == 0:
            circuit = self._create(ticket.key)
        if circuit is not None:
            circuit.record(ticket, health)

    def state(self, key: CircuitKey) -> str:
        """`closed`, `open` or `half-open`."""
        circuit = self._circuits.get(key)
        return CLOSED if circuit is None else str(circuit.breaker.current_state)

    def states(self) -> dict[CircuitKey, str]:
        """Every circuit that has ever failed, for display."""
        return {key: self.state(key) for key in self._circuits}

    def _create(self, key: CircuitKey) -> "_Circuit":
        if len(self._circuits) >= MAX_CIRCUITS:
            del self._circuits[next(iter(self._circuits))]

        def changed(state: str) -> int:
            self._generation += 1
            self._on_change(key, state)
            return self._generation

        circuit = self._circuits[key] = _Circuit(
            key,
            clock=self._clock,
            failure_threshold=self._failure_threshold,
            recovery_time_s=self._recovery_time_s,
            half_open_trials=self._half_open_trials,
            changed=changed,
        )
        return circuit


class _Faulty(Exception):
    """What pybreaker is shown as the failure; never leaves this file."""


class _ClockedStorage(pybreaker.CircuitMemoryStorage):
    """pybreaker's memory, stamped by our clock: pybreaker itself hands in the wall clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(CLOSED)
        self._clock = clock
        self.opened_at_s = 0.0

    @property
    def opened_at(self) -> datetime:
        return datetime.fromtimestamp(self.opened_at_s, UTC)

    @opened_at.setter
    def opened_at(self, wall: datetime) -> None:
        self.opened_at_s = self._clock()


class _Circuit(pybreaker.CircuitBreakerListener):
    """One breaker and the trials that are under way while it is half-open."""

    def __init__(
        self,
        key: CircuitKey,
        *,
        clock: Callable[[], float],
        failure_threshold: int,
        recovery_time_s: float,
        half_open_trials: int,
        changed: Callable[[str], int],
    ) -> None:
        self._key = key
        self._recovery_time_s = recovery_time_s
        self._half_open_trials = half_open_trials
        self._changed = changed
        self._generation = 0
        self._trials: dict[Ticket, float] = {}
        self._storage = _ClockedStorage(clock)
        self.breaker = pybreaker.CircuitBreaker(
            fail_max=failure_threshold,
            reset_timeout=recovery_time_s,
            success_threshold=half_open_trials,
            state_storage=self._storage,
            listeners=[self],
            throw_new_error_on_trip=False,
        )

    def state_change(self, cb: object, old_state: object, new_state: pybreaker.CircuitBreakerState) -> None:
        """pybreaker's hook: every ticket and trial from before is stale."""
        self._trials.clear()
        self._generation = self._changed(new_state.name)

    def may_admit(self, now: float) -> bool:
        state = self.breaker.current_state
        if state == OPEN:
            return now >= self._storage.opened_at_s + self._recovery_time_s
        return state == CLOSED or self._has_free_trial(now)

    def admit(self, now: float) -> Ticket | None:
        if not self.may_admit(now):
            return None
        if self.breaker.current_state == CLOSED:
            return Ticket(self._key, self._generation, is_trial=False)
        if self.breaker.current_state == OPEN:
            self.breaker.half_open()
        ticket = Ticket(self._key, self._generation, is_trial=True)
        self._trials[ticket] = now + self._recovery_time_s
        return ticket

    def record(self, ticket: Ticket, health: Health) -> None:
        if ticket.generation != self._generation:
            return
        self._trials.pop(ticket, None)
        if health is Health.HEALTHY:
            self._storage.reset_counter()
            self.breaker.state.on_success()
        elif health is Health.FAULTY:
            self._storage.increment_counter()
            with suppress(_Faulty):
                self.breaker.state.on_failure(_Faulty())

    def _has_free_trial(self, now: float) -> bool:
        """A trial that nobody recorded gives its place back; its late result still counts."""
        under_way = sum(expires > now for expires in self._trials.values())
        return under_way + self._storage.success_counter < self._half_open_trials
