"""What the guardian counts, times and traces: one method for each thing that happens.

Names of metrics are in instruments.py, those of spans in spans.py. Metrics are added up in plain dicts, and
read when somebody asks (`/metrics`, or an OTLP push): the SDK's own `add` and `record` cost 7 to 9 µs each,
ours (series.py) less than one.

Labels are bounded, what does not fit is counted under `other`. Payers, nonces, keys and URLs are none.
Call from the event loop's thread; reading is safe from any.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from guardian.exporting import (
    SERVICE,
    OtlpReader,
    PrometheusReader,
    exports,
    standard_resource,
    tracer_provider,
)
from guardian.instruments import Instruments
from guardian.series import Names
from guardian.spans import SpanName, Spans

__all__ = ["MAX_NETWORKS", "SpanName", "Telemetry"]

# A caller names the network, so it must not be able to name a million of them.
MAX_NETWORKS: Final = 64
MAX_FACILITATORS: Final = 64
MAX_ROUTES: Final = 256
MAX_WEBHOOKS: Final = 64

CIRCUIT_LEVEL: Final = {"closed": 0, "half-open": 1, "open": 2}


class Telemetry:
    """One per application, no globals. `create` is the way to build it."""

    def __init__(self, *, resource: Resource, networks: Iterable[str], push_metrics: bool) -> None:
        self._network = Names(MAX_NETWORKS, networks)
        self._facilitator = Names(MAX_FACILITATORS)
        self._route = Names(MAX_ROUTES)
        self._host = Names(MAX_ROUTES)
        self._webhook = Names(MAX_WEBHOOKS)
        self._in = Instruments()
        self._begin_at_zero()
        self._spans = Spans()
        self._closed = False
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        readers: list[MetricReader] = [PrometheusReader(self._in.distributions, self._registry)]
        if push_metrics:
            readers.append(OtlpReader(self._in.distributions))
        self._metrics = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        self._in.bind(self._metrics.get_meter(SERVICE))

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
        self._spans.send_to(provider)

    def _begin_at_zero(self) -> None:
        """An alert on the increase of a counter misses the first one unless it stood at zero before."""
        for outcome in ("applied", "refused"):
            self._in.reloads.cells.setdefault((outcome,), 0)
        for network in self._network.labels():
            for counter in (self._in.orphans, self._in.replays, self._in.unpaid, self._in.duplicates):
                counter.cells.setdefault((network,), 0)

    # -- what happened ---------------------------------------------------------------------------

    def settle_answered(self, network: str, facilitator: str, outcome: str, hold_s: float) -> None:
        label = self._network(network)
        self._in.answers.add((label, self._facilitator(facilitator), outcome))
        self._in.hold.record((label, outcome), hold_s)

    def attempt(self, facilitator: str, network: str, operation: str, outcome: str, seconds: float) -> None:
        key = (self._facilitator(facilitator), self._network(network), operation, outcome)
        self._in.attempts.record(key, seconds)

    def classified(self, operation: str, outcome: str, rule: str) -> None:
        self._in.classified.add((operation, outcome, rule))

    def circuit_changed(self, facilitator: str, network: str, operation: str, state: str) -> None:
        key = (self._facilitator(facilitator), self._network(network), operation)
        self._in.circuit_state.put(key, CIRCUIT_LEVEL.get(state, -1))
        self._in.circuit_changes.add((*key, state))

    def finding(self, network: str, kind: str) -> None:
        self._in.findings.add((self._network(network), kind))

    def late_confirmation(self, network: str, seconds: float) -> None:
        self._in.late.record((self._network(network),), seconds)

    def orphan_found(self, network: str) -> None:
        self._in.orphans.add((self._network(network),))

    def orphan_replayed(self, network: str) -> None:
        self._in.replays.add((self._network(network),))

    def orphan_closed(self, network: str, how: str) -> None:
        self._in.closings.add((self._network(network), how))

    def unpaid_found(self, network: str) -> None:
        self._in.unpaid.add((self._network(network),))

    def duplicate(self, network: str) -> None:
        self._in.duplicates.add((self._network(network),))

    def shadow(self, section: str, rule: str, would: str) -> None:
        self._in.shadows.add((section, rule, would))

    def preflight(self, network: str, check: str, done: str) -> None:
        self._in.checks.add((self._network(network), check, done))

    def alert(self, facilitator: str, rule: str) -> None:
        self._in.alerts.add((self._facilitator(facilitator), rule))

    def bought(self, route: str, outcome: str) -> None:
        self._in.bought.add((self._route(route), outcome))

    def diagnosed(self, route: str, host: str, kind: str) -> None:
        self._in.diagnoses.add((self._route(route), self._host(host), kind))

    def facilitator_lied(self, facilitator: str, network: str) -> None:
        self._in.lies.add((self._facilitator(facilitator), self._network(network)))

    def demand(self, network: str, check: str, done: str) -> None:
        self._in.demands.add((self._network(network), check, done))

    def offer(self, network: str, done: str) -> None:
        self._in.offers.add((self._network(network), done))

    def caller_refused(self, reason: str) -> None:
        self._in.refusals.add((reason,))

    def spending_denied(self, rule: str, limit: str) -> None:
        self._in.denials.add((rule, limit))

    def policy_applied(self, version: int, networks: Iterable[str]) -> None:
        self._network.reserve(networks)
        self._begin_at_zero()
        self._in.policy_version.put((), version)
        self._in.policy_refused.put((), 0)
        if version > 1:
            self._in.reloads.add(("applied",))

    def policy_restored(self) -> None:
        self._in.policy_refused.put((), 0)

    def policy_refused(self) -> None:
        self._in.policy_refused.put((), 1)
        self._in.reloads.add(("refused",))

    def webhook(self, name: str, outcome: str) -> None:
        self._in.webhooks.add((self._webhook(name), outcome))

    def webhook_events(self, name: str, waiting: int, dead: int) -> None:
        self._in.hooks_waiting.put((self._webhook(name),), waiting)
        self._in.hooks_dead.put((self._webhook(name),), dead)

    def open_settlements(self, network: str, n: int) -> None:
        self._in.open.put((self._network(network),), n)

    def rpc_call(self, network: str, method: str, outcome: str, seconds: float) -> None:
        self._in.rpc.record((self._network(network), method, outcome), seconds)

    def rpc_credits(self, network: str, endpoint: str, calls: int) -> None:
        self._in.credits.add((self._network(network), endpoint), calls)

    def watcher_head(self, network: str, head: int) -> None:
        label = self._network(network)
        if self._in.head.cells.get((label,)) != head:
            self._in.head_seen[label] = time.monotonic()
        self._in.head.put((label,), head)

    # -- spans, reading, end ---------------------------------------------------------------------

    def span(self, name: SpanName, **attributes: str | int | float | bool) -> AbstractContextManager[Span]:
        """A span around a block; see Spans.open."""
        return self._spans.open(name, attributes)

    def metrics_page(self) -> tuple[bytes, str]:
        """The Prometheus exposition and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def shutdown(self) -> None:
        """Push what is left and stop; idempotent. Blocks while a collector is slow: call in a thread."""
        if self._closed:
            return
        self._closed = True
        self._spans.shutdown()
        self._metrics.shutdown()
