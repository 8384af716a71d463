"""What the guardian counts, times and traces. Every span, metric and attribute name is here.

Metrics are added up in plain dicts, and read when somebody
asks (`/metrics`, or an OTLP push): the SDK's own `add` and `record` cost 7 to 9 µs each, ours (series.py)
less than one. Counters and gauges reach OpenTelemetry as observable instruments. It has no observable
histogram, so the readers of exporting.py hand theirs on as finished data points.

Labels are bounded, what does not fit is counted under `other`. Payers, nonces, keys and URLs are none.
Call from the event loop's thread; reading is safe from any.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, Tracer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from guardian.exporting import (
    SERVICE,
    OtlpReader,
    PrometheusReader,
    exports,
    standard_resource,
    tracer_provider,
)
from guardian.series import Distribution, Names, Values

# A caller names the network, so it must not be able to name a million of them.
MAX_NETWORKS: Final = 64
MAX_FACILITATORS: Final = 64
MAX_ROUTES: Final = 256
MAX_WEBHOOKS: Final = 64

SHORT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0)

CIRCUIT_LEVEL: Final = {"closed": 0, "half-open": 1, "half_open": 1, "open": 2}

# Span attributes: a positive list, so that nobody traces a signature by accident.
SPAN_ATTRIBUTES: Final = {
    "network": "guardian.network",
    "scheme": "guardian.scheme",
    "facilitator": "guardian.facilitator",
    "operation": "guardian.operation",
    "outcome": "guardian.outcome",
    "rule": "guardian.rule",
    "reason": "guardian.reason",
    "settlement": "guardian.settlement.id",
    "transaction": "guardian.transaction",
    "attempt": "guardian.attempt",
    "method": "guardian.rpc.method",
    "route": "guardian.route",
    "status": "http.response.status_code",
}


class SpanName(StrEnum):
    """The spans; `Telemetry.span` takes no other names by convention."""

    SETTLE = "guardian.settle"
    VERIFY = "guardian.verify"
    PURCHASE = "guardian.purchase"
    PASS_THROUGH = "guardian.pass_through"
    ATTEMPT = "guardian.attempt"
    WATCH = "guardian.watch"
    RECONCILE = "guardian.reconcile"
    RPC = "guardian.rpc"


def _observer(values: Values) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        for key, value in values.cells.copy().items():
            yield Observation(value, dict(zip(values.labels, key, strict=True)))

    return observe


class Telemetry:
    """One per application, no globals. `create` is the way to build it."""

    def __init__(self, *, resource: Resource, networks: Iterable[str], push_metrics: bool) -> None:
        self._network = Names(MAX_NETWORKS, networks)
        self._facilitator = Names(MAX_FACILITATORS)
        self._route = Names(MAX_ROUTES)
        self._host = Names(MAX_ROUTES)
        self._webhook = Names(MAX_WEBHOOKS)
        self._head_seen: dict[str, float] = {}
        self._traces: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._closed = False
        self._counters()
        self._gauges()
        self._histograms()
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        readers: list[MetricReader] = [PrometheusReader(self._distributions, self._registry)]
        if push_metrics:
            readers.append(OtlpReader(self._distributions))
        self._metrics = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        self._bind()

    @classmethod
    def create(
        cls,
        *,
        service_version: str,
        otlp: bool | None = None,
        networks: Iterable[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> "Telemetry":
        """Build from the standard OTEL_* environment variables.

        otlp: False switches pushing off, None and True leave it to the environment, since the exporters
        read their endpoint there. networks: the policy's, which always keep their own label.
        """
        env = os.environ if environ is None else environ
        push = otlp is not False
        resource = standard_resource(service_version)
        made = cls(resource=resource, networks=networks, push_metrics=push and exports("METRICS", env))
        if push and exports("TRACES", env):
            made.trace_with(tracer_provider(resource))
        return made

    def trace_with(self, provider: TracerProvider) -> None:
        """Send spans to this provider, which `shutdown` then closes."""
        self._traces = provider
        self._tracer = provider.get_tracer(SERVICE)

    # -- names -----------------------------------------------------------------------------------

    def _counters(self) -> None:
        self._answers = Values("network", "facilitator", "outcome")
        self._classified = Values("operation", "outcome", "rule")
        self._circuit_changes = Values("facilitator", "network", "operation", "state")
        self._findings = Values("network", "kind")
        self._orphans = Values("network")
        self._replays = Values("network")
        self._closings = Values("network", "how")
        self._unpaid = Values("network")
        self._duplicates = Values("network")
        self._credits = Values("network", "endpoint")
        self._shadows = Values("section", "rule", "would")
        self._checks = Values("network", "check", "done")
        self._alerts = Values("facilitator", "rule")
        self._bought = Values("route", "outcome")
        self._refusals = Values("reason")
        self._diagnoses = Values("route", "host", "kind")
        self._lies = Values("facilitator", "network")
        self._demands, self._offers = Values("network", "check", "done"), Values("network", "done")
        self._webhooks, self._denials = Values("webhook", "outcome"), Values("rule", "limit")
        self._reloads = Values("outcome")
        for outcome in ("applied", "refused"):
            self._reloads.put((outcome,), 0)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """An alert on the increase of a counter misses the first one unless it stood at zero before."""
        for network in self._network.labels():
            for counter in (self._orphans, self._replays, self._unpaid, self._duplicates):
                counter.cells.setdefault((network,), 0)

    def _gauges(self) -> None:
        self._circuit_state = Values("facilitator", "network", "operation")
        self._open = Values("network")
        self._head = Values("network")
        self._policy_version = Values()
        self._policy_refused = Values()
        self._hooks_waiting = Values("webhook")
        self._hooks_dead = Values("webhook")

    def _histograms(self) -> None:
        self._hold = Distribution(
            "guardian.settle.hold",
            "How long a caller of /settle waited for its answer",
            SHORT_S,
            ("network", "outcome"),
        )
        self._attempts = Distribution(
            "guardian.facilitator.attempt.duration",
            "Calls to a facilitator, until its reply or the loss of it",
            SHORT_S,
            ("facilitator", "network", "operation", "outcome"),
        )
        self._late = Distribution(
            "guardian.late.confirmation",
            "Time from sending to proof, of settlements that were in doubt and turned out paid",
            LONG_S,
            ("network",),
        )
        self._rpc = Distribution(
            "guardian.rpc.call.duration", "Calls to a chain node", SHORT_S, ("network", "method", "outcome")
        )
        self._distributions = (self._hold, self._attempts, self._late, self._rpc)

    def _bind(self) -> None:
        meter = self._metrics.get_meter(SERVICE)
        for name, counter, description in (
            ("guardian.settle.answers", self._answers, "Answers given to callers of /settle"),
            ("guardian.replies.classified", self._classified, "Facilitator replies, by the rule that fit"),
            ("guardian.circuit.changes", self._circuit_changes, "Changes of a circuit's state"),
            ("guardian.chain.findings", self._findings, "What the chain showed about watched payments"),
            ("guardian.orphans.found", self._orphans, "Payments that moved while nobody holds the success"),
            ("guardian.orphans.replayed", self._replays, "Orphans delivered to a later call"),
            ("guardian.orphans.closed", self._closings, "Orphans refunded or written off by a person"),
            ("guardian.unpaid.found", self._unpaid, "Successes handed out for money that never moved"),
            ("guardian.duplicates", self._duplicates, "Settles refused because they were delivered before"),
            ("guardian.rpc.credits", self._credits, "Calls sent to chain nodes, each one of a batch counted"),
            ("guardian.policy.shadows", self._shadows, "Times a rule in shadow mode would have applied"),
            ("guardian.preflight.findings", self._checks, "What preflight found: refused, warned or shadow"),
            ("guardian.alerts", self._alerts, "Replies that a rule wants a person to look at"),
            ("guardian.purchases", self._bought, "What became of payments that agents sent, by route"),
            ("guardian.diagnoses", self._diagnoses, "Buyers that loop, sellers and receipts that lie"),
            ("guardian.callers.refused", self._refusals, "Requests turned away because of who sent them"),
            ("guardian.facilitator.lies", self._lies, "Successes of a facilitator that moved no money"),
            ("guardian.demands.findings", self._demands, "What was found in 402s of routes, by check"),
            ("guardian.offers", self._offers, "Offers of 402s that were moved back or taken out"),
            ("guardian.webhooks.sent", self._webhooks, "Attempts to hand an event to a webhook"),
            ("guardian.spending.denied", self._denials, "Payments refused by the spending policy"),
            ("guardian.policy.reloads", self._reloads, "New policy files, applied or refused"),
        ):
            meter.create_observable_counter(name, [_observer(counter)], description=description)
        for name, observe, unit, description in (
            ("guardian.circuit.state", _observer(self._circuit_state), "", "0 closed, 1 half-open, 2 open"),
            ("guardian.open.settlements", _observer(self._open), "", "Settlements whose truth is not final"),
            ("guardian.policy.version", _observer(self._policy_version), "", "Counts the policies in force"),
            (
                "guardian.policy.refused",
                _observer(self._policy_refused),
                "",
                "1: the file on disk is refused",
            ),
            ("guardian.webhooks.waiting", _observer(self._hooks_waiting), "", "Events not taken yet"),
            ("guardian.webhooks.dead", _observer(self._hooks_dead), "", "Events that were laid aside"),
            ("guardian.watcher.head", _observer(self._head), "", "The newest block the watcher has read"),
            ("guardian.watcher.head.age", self._head_ages, "s", "Time since the watcher's head moved"),
        ):
            meter.create_observable_gauge(name, [observe], unit, description)

    # -- what happened ---------------------------------------------------------------------------

    def settle_answered(self, network: str, facilitator: str, outcome: str, hold_s: float) -> None:
        label = self._network(network)
        self._answers.add((label, self._facilitator(facilitator), outcome))
        self._hold.record((label, outcome), hold_s)

    def attempt(self, facilitator: str, network: str, operation: str, outcome: str, seconds: float) -> None:
        key = (self._facilitator(facilitator), self._network(network), operation, outcome)
        self._attempts.record(key, seconds)

    def classified(self, operation: str, outcome: str, rule: str) -> None:
        self._classified.add((operation, outcome, rule))

    def circuit_changed(self, facilitator: str, network: str, operation: str, state: str) -> None:
        key = (self._facilitator(facilitator), self._network(network), operation)
        self._circuit_state.put(key, CIRCUIT_LEVEL.get(state, -1))
        self._circuit_changes.add((*key, state))

    def finding(self, network: str, kind: str) -> None:
        self._findings.add((self._network(network), kind))

    def late_confirmation(self, network: str, seconds: float) -> None:
        self._late.record((self._network(network),), seconds)

    def orphan_found(self, network: str) -> None:
        self._orphans.add((self._network(network),))

    def orphan_replayed(self, network: str) -> None:
        self._replays.add((self._network(network),))

    def orphan_closed(self, network: str, how: str) -> None:
        self._closings.add((self._network(network), how))

    def unpaid_found(self, network: str) -> None:
        self._unpaid.add((self._network(network),))

    def duplicate(self, network: str) -> None:
        self._duplicates.add((self._network(network),))

    def shadow(self, section: str, rule: str, would: str) -> None:
        self._shadows.add((section, rule, would))

    def preflight(self, network: str, check: str, done: str) -> None:
        self._checks.add((self._network(network), check, done))

    def alert(self, facilitator: str, rule: str) -> None:
        self._alerts.add((self._facilitator(facilitator), rule))

    def bought(self, route: str, outcome: str) -> None:
        self._bought.add((self._route(route), outcome))

    def diagnosed(self, route: str, host: str, kind: str) -> None:
        self._diagnoses.add((self._route(route), self._host(host), kind))

    def facilitator_lied(self, facilitator: str, network: str) -> None:
        self._lies.add((self._facilitator(facilitator), self._network(network)))

    def demand(self, network: str, check: str, done: str) -> None:
        self._demands.add((self._network(network), check, done))

    def offer(self, network: str, done: str) -> None:
        self._offers.add((self._network(network), done))

    def caller_refused(self, reason: str) -> None:
        self._refusals.add((reason,))

    def spending_denied(self, rule: str, limit: str) -> None:
        self._denials.add((rule, limit))

    def policy_applied(self, version: int, networks: Iterable[str]) -> None:
        self._network.reserve(networks)
        self._begin_at_zero()
        self._policy_version.put((), version)
        self._policy_refused.put((), 0)
        if version > 1:
            self._reloads.add(("applied",))

    def policy_restored(self) -> None:
        self._policy_refused.put((), 0)

    def policy_refused(self) -> None:
        self._policy_refused.put((), 1)
        self._reloads.add(("refused",))

    def webhook(self, name: str, outcome: str) -> None:
        self._webhooks.add((self._webhook(name), outcome))

    def webhook_events(self, name: str, waiting: int, dead: int) -> None:
        self._hooks_waiting.put((self._webhook(name),), waiting)
        self._hooks_dead.put((self._webhook(name),), dead)

    def open_settlements(self, network: str, n: int) -> None:
        self._open.put((self._network(network),), n)

    def rpc_call(self, network: str, method: str, outcome: str, seconds: float) -> None:
        self._rpc.record((self._network(network), method, outcome), seconds)

    def rpc_credits(self, network: str, endpoint: str, calls: int) -> None:
        self._credits.add((self._network(network), endpoint), calls)

    def watcher_head(self, network: str, head: int) -> None:
        label = self._network(network)
        if self._head.cells.get((label,)) != head:
            self._head_seen[label] = time.monotonic()
        self._head.put((label,), head)

    def _head_ages(self, _options: CallbackOptions) -> Iterator[Observation]:
        now = time.monotonic()
        for label, seen in self._head_seen.copy().items():
            yield Observation(now - seen, {"network": label})

    # -- spans, reading, end ---------------------------------------------------------------------

    def span(self, name: str, **attributes: str | int | float | bool) -> AbstractContextManager[Span]:
        """A span around a block; free of cost while no exporter is configured.

        Attributes outside SPAN_ATTRIBUTES are dropped. An exception is recorded by its type only: its
        text may quote a request.
        """
        if self._tracer is None:
            return _NO_SPAN
        named = {SPAN_ATTRIBUTES[key]: value for key, value in attributes.items() if key in SPAN_ATTRIBUTES}
        return _span(self._tracer, name, named)

    def metrics_page(self) -> tuple[bytes, str]:
        """The Prometheus exposition and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def shutdown(self) -> None:
        """Push what is left and stop; idempotent. Blocks while a collector is slow: call in a thread."""
        if self._closed:
            return
        self._closed = True
        self._tracer = None
        if self._traces is not None:
            self._traces.shutdown()
        self._metrics.shutdown()


_NO_SPAN: Final[AbstractContextManager[Span]] = nullcontext(INVALID_SPAN)


@contextmanager
def _span(tracer: Tracer, name: str, attributes: Mapping[str, str | int | float | bool]) -> Iterator[Span]:
    opened: Callable[..., AbstractContextManager[Span]] = tracer.start_as_current_span
    with opened(name, attributes=attributes, record_exception=False, set_status_on_exception=False) as span:
        try:
            yield span
        except BaseException as exc:
            span.set_status(Status(StatusCode.ERROR, type(exc).__name__))
            raise
