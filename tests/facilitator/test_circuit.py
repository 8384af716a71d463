"""The circuit as a script over an injected clock: admit, then report."""

import pytest

from guardian.facilitator.circuit import MAX_CIRCUITS, CircuitKey, Circuits, CircuitSettings, Ticket
from guardian.settlement.verdict import Health

KEY = CircuitKey("main", "eip155:8453", "settle")
OTHER = KEY._replace(operation="verify")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Script:
    """Circuits with a threshold of three and a recovery time of 30 s, unless the script says otherwise."""

    def __init__(self, trials: int = 1) -> None:
        self.clock = Clock()
        self.heard: list[str] = []
        self.settings = CircuitSettings(3, 30.0, trials)
        self.special: dict[CircuitKey, CircuitSettings] = {}
        self.circuits = Circuits(
            self.clock,
            lambda key: self.special.get(key, self.settings),
            lambda key, state: self.heard.append(state),
        )

    def ticket(self, key: CircuitKey = KEY) -> Ticket:
        ticket = self.circuits.admit(key)
        assert ticket is not None
        return ticket

    def say(self, *healths: Health, key: CircuitKey = KEY) -> None:
        for health in healths:
            self.circuits.record(self.ticket(key), health)

    def open(self) -> None:
        self.say(Health.FAULTY, Health.FAULTY, Health.FAULTY)

    def half_open(self) -> None:
        self.open()
        self.clock.now += 30.0

    @property
    def state(self) -> str:
        return self.circuits.state(KEY)


def test_circuit_opens_after_that_many_failures_in_a_row() -> None:
    script = Script()
    script.say(Health.FAULTY, Health.FAULTY)
    assert script.state == "closed"
    script.say(Health.FAULTY)
    assert script.state == "open"
    assert script.circuits.admit(KEY) is None
    assert script.heard == ["open"]


def test_health_in_between_starts_the_count_anew() -> None:
    script = Script()
    script.say(Health.FAULTY, Health.FAULTY, Health.HEALTHY, Health.FAULTY, Health.FAULTY)
    assert script.state == "closed"


def test_neutral_counts_neither_for_nor_against() -> None:
    script = Script()
    script.say(Health.FAULTY, Health.NEUTRAL, Health.FAULTY, Health.NEUTRAL, Health.NEUTRAL)
    assert script.state == "closed"
    script.say(Health.FAULTY)
    assert script.state == "open"


def test_facilitators_networks_and_operations_fail_apart() -> None:
    script = Script()
    script.open()
    assert script.circuits.admit(OTHER) is not None
    assert script.circuits.admit(KEY._replace(network="eip155:1")) is not None
    assert script.circuits.admit(KEY._replace(facilitator="second")) is not None


def test_open_circuit_admits_a_trial_only_when_the_injected_clock_says_so() -> None:
    script = Script()
    script.open()
    script.clock.now += 29.9
    assert not script.circuits.may_admit(KEY)
    assert script.circuits.admit(KEY) is None
    script.clock.now += 0.1
    assert script.circuits.may_admit(KEY)
    assert script.state == "open"
    assert script.ticket().is_trial
    assert script.state == "half-open"


def test_half_open_admits_only_its_trials() -> None:
    script = Script(trials=2)
    script.half_open()
    script.ticket()
    script.ticket()
    assert not script.circuits.may_admit(KEY)
    assert script.circuits.admit(KEY) is None


def test_healthy_trials_close_the_circuit_and_forget_its_failures() -> None:
    script = Script(trials=2)
    script.half_open()
    first, second = script.ticket(), script.ticket()
    script.circuits.record(first, Health.HEALTHY)
    assert script.state == "half-open"
    assert script.circuits.admit(KEY) is None
    script.circuits.record(second, Health.HEALTHY)
    assert script.state == "closed"
    assert script.heard == ["open", "half-open", "closed"]
    script.say(Health.FAULTY, Health.FAULTY)
    assert script.state == "closed"


def test_faulty_trial_opens_the_circuit_for_another_whole_recovery_time() -> None:
    script = Script()
    script.half_open()
    trial = script.ticket()
    script.clock.now += 5.0
    script.circuits.record(trial, Health.FAULTY)
    assert script.state == "open"
    script.clock.now += 29.9
    assert script.circuits.admit(KEY) is None
    script.clock.now += 0.1
    assert script.ticket().is_trial


def test_neutral_trial_moves_nothing_and_gives_its_place_back() -> None:
    script = Script()
    script.half_open()
    script.circuits.record(script.ticket(), Health.NEUTRAL)
    assert script.state == "half-open"
    script.circuits.record(script.ticket(), Health.HEALTHY)
    assert script.state == "closed"


def test_trial_that_nobody_records_does_not_wedge_the_circuit() -> None:
    script = Script()
    script.half_open()
    script.ticket()
    script.clock.now += 29.9
    assert script.circuits.admit(KEY) is None
    script.clock.now += 0.1
    script.circuits.record(script.ticket(), Health.HEALTHY)
    assert script.state == "closed"


@pytest.mark.parametrize(("health", "state"), [(Health.HEALTHY, "closed"), (Health.FAULTY, "open")])
def test_trial_slower_than_the_recovery_time_still_counts(health: Health, state: str) -> None:
    script = Script()
    script.half_open()
    slow = script.ticket()
    script.clock.now += 60.0
    script.circuits.record(slow, health)
    assert script.state == state


@pytest.mark.parametrize("health", list(Health))
def test_ticket_from_before_a_change_of_state_moves_nothing(health: Health) -> None:
    script = Script()
    before = [script.ticket() for _ in range(5)]
    script.open()
    script.clock.now += 20.0
    script.circuits.record(before[0], health)
    script.clock.now += 10.0
    trial = script.ticket()
    script.circuits.record(before[1], health)
    assert script.state == "half-open"
    assert script.circuits.admit(KEY) is None
    script.circuits.record(trial, Health.HEALTHY)
    for ticket in before[2:]:
        script.circuits.record(ticket, health)
    assert script.state == "closed"
    assert script.heard == ["open", "half-open", "closed"]


def test_calls_in_flight_when_the_circuit_trips_do_not_prolong_it() -> None:
    script = Script()
    flying = [script.ticket() for _ in range(10)]
    for ticket in flying:
        script.clock.now += 1.0
        script.circuits.record(ticket, Health.FAULTY)
    assert script.heard == ["open"]
    script.clock.now += 23.0
    assert script.circuits.admit(KEY) is not None


def test_ticket_recorded_twice_in_half_open_counts_its_place_once() -> None:
    script = Script(trials=2)
    script.half_open()
    ticket = script.ticket()
    script.circuits.record(ticket, Health.NEUTRAL)
    script.circuits.record(ticket, Health.NEUTRAL)
    script.ticket()
    script.ticket()
    assert script.circuits.admit(KEY) is None


def test_networks_that_callers_invent_fill_no_memory() -> None:
    script = Script()
    for number in range(MAX_CIRCUITS + 10):
        key = KEY._replace(network=f"made-up:{number}")
        script.say(Health.HEALTHY, Health.NEUTRAL, key=key)
    assert script.circuits.states() == {}
    for number in range(MAX_CIRCUITS + 10):
        script.say(Health.FAULTY, key=KEY._replace(network=f"made-up:{number}"))
    assert len(script.circuits.states()) == MAX_CIRCUITS


def fill(script: Script) -> None:
    for number in range(MAX_CIRCUITS):
        script.say(Health.FAULTY, key=KEY._replace(network=f"made-up:{number}"))


def test_networks_that_callers_invent_close_no_open_circuit() -> None:
    script = Script()
    script.open()
    fill(script)
    assert script.state == "open"
    assert len(script.circuits.states()) == MAX_CIRCUITS


def test_circuit_that_is_forgotten_while_open_is_said_to_be_closed() -> None:
    script = Script()
    script.settings = CircuitSettings(1, 30.0, 1)
    script.say(Health.FAULTY)
    script.heard.clear()
    fill(script)
    assert script.heard.count("closed") == 1
    assert script.state == "closed"


def test_each_facilitator_and_network_has_its_own_settings() -> None:
    script = Script()
    touchy = KEY._replace(network="eip155:1")
    script.special[touchy] = CircuitSettings(1, 5.0, 1)
    script.say(Health.FAULTY)
    script.say(Health.FAULTY, key=touchy)
    assert script.state == "closed"
    assert script.circuits.state(touchy) == "open"
    script.clock.now += 5.0
    assert script.circuits.may_admit(touchy)


def test_new_threshold_holds_from_the_next_failure_and_keeps_the_count() -> None:
    script = Script()
    script.say(Health.FAULTY, Health.FAULTY)
    script.settings = CircuitSettings(5, 30.0, 1)
    script.say(Health.FAULTY, Health.FAULTY)
    assert script.state == "closed"
    script.settings = CircuitSettings(2, 30.0, 1)
    assert script.state == "closed"
    script.say(Health.FAULTY)
    assert script.state == "open"


def test_new_recovery_time_holds_for_a_circuit_that_is_open() -> None:
    script = Script()
    script.open()
    script.settings = CircuitSettings(3, 5.0, 1)
    script.clock.now += 5.0
    assert script.circuits.may_admit(KEY)
    script.settings = CircuitSettings(3, 60.0, 1)
    assert not script.circuits.may_admit(KEY)


@pytest.mark.parametrize("fewer", [1, 2])
def test_fewer_trials_than_were_healthy_already_do_not_wedge_the_circuit(fewer: int) -> None:
    script = Script(trials=4)
    script.half_open()
    for _ in range(2):
        script.circuits.record(script.ticket(), Health.HEALTHY)
    script.settings = CircuitSettings(3, 30.0, fewer)
    script.circuits.record(script.ticket(), Health.HEALTHY)
    assert script.state == "closed"


def test_more_trials_than_before_are_all_asked_for() -> None:
    script = Script(trials=1)
    script.half_open()
    first = script.ticket()
    script.settings = CircuitSettings(3, 30.0, 2)
    second = script.ticket()
    script.circuits.record(first, Health.HEALTHY)
    assert script.state == "half-open"
    script.circuits.record(second, Health.HEALTHY)
    assert script.state == "closed"


def test_forgetting_a_facilitator_closes_its_circuits_and_no_others() -> None:
    script = Script()
    second = KEY._replace(facilitator="second")
    script.open()
    before = script.ticket(OTHER)
    script.say(Health.FAULTY, Health.FAULTY, Health.FAULTY, key=second)
    script.circuits.forget("main")
    assert list(script.circuits.states()) == [second]
    assert script.heard == ["open", "open", "closed"]
    script.circuits.record(before, Health.HEALTHY)
    assert list(script.circuits.states()) == [second]
