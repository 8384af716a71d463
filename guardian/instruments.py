"""Every metric by name, with its labels and what is said of it; and what is added up for it. No events.

Counters and gauges reach OpenTelemetry as observable instruments. It has no observable histogram, so the
readers of exporting.py hand `distributions` on as finished data points.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from guardian.series import Distribution, Values

SHORT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0)

Observe = Callable[[CallbackOptions], Iterator[Observation]]


class Instruments:
    """One set of metrics. head_seen: when the newest block of a network moved, on a clock that only grows."""

    def __init__(self) -> None:
        self.head_seen: dict[str, float] = {}
        self._counters: list[tuple[str, str, Values]] = []
        self._gauges: list[tuple[str, str, str, Observe]] = []
        self._of_settles()
        self._of_chains_and_facilitators()
        self._of_routes()
        self._of_policy()
        self._timed()

    def bind(self, meter: Meter) -> None:
        """Let a meter read them whenever somebody asks."""
        for name, description, values in self._counters:
            meter.create_observable_counter(name, [_observer(values)], description=description)
        for name, unit, description, observe in self._gauges:
            meter.create_observable_gauge(name, [observe], unit, description)

    def _counter(self, name: str, description: str, *labels: str) -> Values:
        values = Values(*labels)
        self._counters.append((name, description, values))
        return values

    def _gauge(self, name: str, description: str, *labels: str) -> Values:
        values = Values(*labels)
        self._gauges.append((name, "", description, _observer(values)))
        return values

    def _of_settles(self) -> None:
        self.answers = self._counter(
            *("guardian.settle.answers", "Answers given to callers of /settle"),
            *("network", "facilitator", "outcome"),
        )
        self.orphans = self._counter(
            "guardian.orphans.found", "Payments that moved while nobody holds the success", "network"
        )
        self.replays = self._counter(
            "guardian.orphans.replayed", "Orphans delivered to a later call", "network"
        )
        self.closings = self._counter(
            "guardian.orphans.closed", "Orphans refunded or written off by a person", "network", "how"
        )
        self.unpaid = self._counter(
            "guardian.unpaid.found", "Successes handed out for money that never moved", "network"
        )
        self.duplicates = self._counter(
            "guardian.duplicates", "Settles refused because they were delivered before", "network"
        )
        self.checks = self._counter(
            *("guardian.preflight.findings", "What preflight found: refused, warned or shadow"),
            *("network", "check", "done"),
        )
        self.open = self._gauge(
            "guardian.open.settlements", "Settlements whose truth is not final", "network"
        )

    def _of_chains_and_facilitators(self) -> None:
        self.classified = self._counter(
            *("guardian.replies.classified", "Facilitator replies, by the rule that fit"),
            *("operation", "outcome", "rule"),
        )
        circuit = ("facilitator", "network", "operation")
        self.circuit_changes = self._counter(
            "guardian.circuit.changes", "Changes of a circuit's state", *circuit, "state"
        )
        self.circuit_state = self._gauge("guardian.circuit.state", "0 closed, 1 half-open, 2 open", *circuit)
        self.alerts = self._counter(
            "guardian.alerts", "Replies that a rule wants a person to look at", "facilitator", "rule"
        )
        self.lies = self._counter(
            *("guardian.facilitator.lies", "Successes of a facilitator that moved no money"),
            *("facilitator", "network"),
        )
        self.findings = self._counter(
            "guardian.chain.findings", "What the chain showed about watched payments", "network", "kind"
        )
        self.credits = self._counter(
            *("guardian.rpc.credits", "Calls sent to chain nodes, each one of a batch counted"),
            *("network", "endpoint"),
        )
        self.head = self._gauge("guardian.watcher.head", "The newest block the watcher has read", "network")
        ages = "Time since the watcher's head moved"
        self._gauges.append(("guardian.watcher.head.age", "s", ages, self._head_ages))

    def _of_routes(self) -> None:
        self.bought = self._counter(
            "guardian.purchases", "What became of payments that agents sent, by route", "route", "outcome"
        )
        self.diagnoses = self._counter(
            *("guardian.diagnoses", "Buyers that loop, sellers and receipts that lie"),
            *("route", "host", "kind"),
        )
        self.demands = self._counter(
            *("guardian.demands.findings", "What was found in 402s of routes, by check"),
            *("network", "check", "done"),
        )
        self.offers = self._counter(
            "guardian.offers", "Offers of 402s that were moved back or taken out", "network", "done"
        )
        self.denials = self._counter(
            "guardian.spending.denied", "Payments refused by the spending policy", "rule", "limit"
        )
        self.refusals = self._counter(
            "guardian.callers.refused", "Requests turned away because of who sent them", "reason"
        )

    def _of_policy(self) -> None:
        self.shadows = self._counter(
            *("guardian.policy.shadows", "Times a rule in shadow mode would have applied"),
            *("section", "rule", "would"),
        )
        self.reloads = self._counter(
            "guardian.policy.reloads", "New policy files, applied or refused", "outcome"
        )
        self.policy_version = self._gauge("guardian.policy.version", "Counts the policies in force")
        self.policy_refused = self._gauge("guardian.policy.refused", "1: the file on disk is refused")
        self.webhooks = self._counter(
            "guardian.webhooks.sent", "Attempts to hand an event to a webhook", "webhook", "outcome"
        )
        self.hooks_waiting = self._gauge("guardian.webhooks.waiting", "Events not taken yet", "webhook")
        self.hooks_dead = self._gauge("guardian.webhooks.dead", "Events that were laid aside", "webhook")

    def _timed(self) -> None:
        self.hold = Distribution(
            "guardian.settle.hold",
            "How long a caller of /settle waited for its answer",
            SHORT_S,
            ("network", "outcome"),
        )
        self.attempts = Distribution(
            "guardian.facilitator.attempt.duration",
            "Calls to a facilitator, until its reply or the loss of it",
            SHORT_S,
            ("facilitator", "network", "operation", "outcome"),
        )
        self.late = Distribution(
            "guardian.late.confirmation",
            "Time from sending to proof, of settlements that were in doubt and turned out paid",
            LONG_S,
            ("network",),
        )
        self.rpc = Distribution(
            "guardian.rpc.call.duration", "Calls to a chain node", SHORT_S, ("network", "method", "outcome")
        )
        self.distributions = (self.hold, self.attempts, self.late, self.rpc)

    def _head_ages(self, _options: CallbackOptions) -> Iterator[Observation]:
        now = time.monotonic()
        for label, seen in self.head_seen.copy().items():
            yield Observation(now - seen, {"network": label})


def _observer(values: Values) -> Observe:
    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        for key, value in values.cells.copy().items():
            yield Observation(value, dict(zip(values.labels, key, strict=True)))

    return observe
