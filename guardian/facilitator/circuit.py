"""One circuit per facilitator, network and operation: pybreaker in two steps.

`admit` gives a ticket or None; `record` takes the ticket back with what the reply said about the
facilitator's health. pybreaker keeps the state, the counters and the rules of the moves; its `call`
is never used, because it holds a lock over the call, reads the wall clock, admits everyone when
half-open and counts a cancellation as health. No I/O, no asyncio: the clock is handed in.

The settings are asked for at each decision, so that a policy read anew changes them from the next one
on and no circuit loses what it has counted.

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

from guardian.settlement.verdict import Health

MAX_CIRCUITS = 1024
"""Networks are named by callers; beyond this many a circuit is forgotten (and so closed): of those that
are closed the oldest, else the oldest of all."""

CLOSED: str = pybreaker.STATE_CLOSED
OPEN: str = pybreaker.STATE_OPEN


class CircuitKey(NamedTuple):
    """What fails together: one facilitator, on one network, in one operation."""

    facilitator: str
    network: str
    operation: str


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    """When a circuit opens, how long it rests, and how many trials must be healthy to close it."""

    failure_threshold: int
    recovery_time_s: float
    half_open_trials: int


SettingsOf = Callable[[CircuitKey], CircuitSettings]


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """Leave to call once; belongs to the circuit's state at the time it was given."""

    key: CircuitKey
    generation: int
    is_trial: bool


class Circuits:
    """All circuits of a process; time in seconds of `clock`, `settings` in force for a key right now.

    A key without a circuit is closed and has never failed: only a failure makes one. A closed circuit
    admits without asking for its settings.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        settings: SettingsOf,
        on_change: Callable[[CircuitKey, str], None] = lambda key, state: None,
    ) -> None:
        self._clock = clock
        self._settings = settings
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

    def impose(self, key: CircuitKey, state: str) -> None:
        """What another replica has seen of this facilitator: open with it, close with it."""
        circuit = self._circuits.get(key)
        if state == OPEN and self.state(key) == CLOSED:
            (circuit or self._create(key)).breaker.open()
        elif state == CLOSED and circuit is not None and self.state(key) != CLOSED:
            circuit.breaker.close()

    def forget(self, facilitator: str) -> None:
        """Close and drop its circuits: under this name another facilitator stands now, or none."""
        for key in [key for key in self._circuits if key.facilitator == facilitator]:
            self._drop(key)

    def _create(self, key: CircuitKey) -> "_Circuit":
        if len(self._circuits) >= MAX_CIRCUITS:
            closed = (key for key in self._circuits if self.state(key) == CLOSED)
            self._drop(next(closed, None) or next(iter(self._circuits)))

        def changed(state: str) -> int:
            self._generation += 1
            self._on_change(key, state)
            return self._generation

        circuit = self._circuits[key] = _Circuit(key, self._clock, self._settings, changed)
        return circuit

    def _drop(self, key: CircuitKey) -> None:
        """Whoever shows the states must not go on showing this one as open."""
        was_closed = self.state(key) == CLOSED
        del self._circuits[key]
        if not was_closed:
            self._on_change(key, CLOSED)


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
        clock: Callable[[], float],
        settings: SettingsOf,
        changed: Callable[[str], int],
    ) -> None:
        self._key = key
        self._settings = settings
        self._changed = changed
        self._generation = 0
        self._trials: dict[Ticket, float] = {}
        self._storage = _ClockedStorage(clock)
        self.breaker = pybreaker.CircuitBreaker(
            state_storage=self._storage, listeners=[self], throw_new_error_on_trip=False
        )

    def state_change(self, cb: object, old_state: object, new_state: pybreaker.CircuitBreakerState) -> None:
        """pybreaker's hook: every ticket and trial from before is stale."""
        self._trials.clear()
        self._generation = self._changed(new_state.name)

    def may_admit(self, now: float) -> bool:
        state = self.breaker.current_state
        if state == OPEN:
            return now >= self._storage.opened_at_s + self._settings(self._key).recovery_time_s
        return state == CLOSED or self._has_free_trial(now)

    def admit(self, now: float) -> Ticket | None:
        if not self.may_admit(now):
            return None
        if self.breaker.current_state == CLOSED:
            return Ticket(self._key, self._generation, is_trial=False)
        if self.breaker.current_state == OPEN:
            self.breaker.half_open()
        ticket = Ticket(self._key, self._generation, is_trial=True)
        self._trials[ticket] = now + self._settings(self._key).recovery_time_s
        return ticket

    def record(self, ticket: Ticket, health: Health) -> None:
        if ticket.generation != self._generation:
            return
        self._trials.pop(ticket, None)
        if health is Health.HEALTHY:
            self.breaker.success_threshold = self._settings(self._key).half_open_trials
            self._storage.reset_counter()
            self.breaker.state.on_success()
        elif health is Health.FAULTY:
            self.breaker.fail_max = self._settings(self._key).failure_threshold
            self._storage.increment_counter()
            with suppress(_Faulty):
                self.breaker.state.on_failure(_Faulty())

    def _has_free_trial(self, now: float) -> bool:
        """A trial that nobody recorded gives its place back; its late result still counts.

        Where fewer trials are asked for than were healthy already, one more has to say so.
        """
        under_way = sum(expires > now for expires in self._trials.values())
        wanted = self._settings(self._key).half_open_trials
        return not under_way or under_way + self._storage.success_counter < wanted
