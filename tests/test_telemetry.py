"""Telemetry: what the metrics page shows, what stays bounded, what tracing costs and records."""

import asyncio
import inspect
import re
import threading
import timeit
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, StatusCode
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from guardian.series import MAX_HISTOGRAM_SERIES, MAX_SERIES, Distribution, Values
from guardian.telemetry import MAX_NETWORKS, SpanName, Telemetry

BASE = "eip155:8453"


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry.create(service_version="1.2.3", networks=[BASE], environ={})
    yield made
    made.shutdown()


def families(telemetry: Telemetry) -> dict[str, Metric]:
    page, content_type = telemetry.metrics_page()
    assert content_type.startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def value(telemetry: Telemetry, sample_name: str, **labels: str) -> float:
    found = [
        sample.value
        for family in families(telemetry).values()
        for sample in family.samples
        if sample.name == sample_name and sample.labels == labels
    ]
    assert len(found) == 1, f"{sample_name}{labels}: {len(found)} samples"
    return float(found[0])


def test_an_answered_settle_is_counted_and_its_hold_timed(telemetry: Telemetry) -> None:
    telemetry.settle_answered(BASE, "main", "success", 0.04)
    telemetry.settle_answered(BASE, "main", "success", 0.05)
    telemetry.settle_answered(BASE, "main", "pending", 25.0)
    success = {"network": BASE, "outcome": "success"}
    assert value(telemetry, "guardian_settle_answers_total", facilitator="main", **success) == 2
    assert value(telemetry, "guardian_settle_hold_seconds_count", **success) == 2
    assert value(telemetry, "guardian_settle_hold_seconds_sum", **success) == pytest.approx(0.09)
    assert value(telemetry, "guardian_settle_hold_seconds_bucket", le="0.025", **success) == 0
    assert value(telemetry, "guardian_settle_hold_seconds_bucket", le="0.05", **success) == 2
    assert value(telemetry, "guardian_settle_hold_seconds_bucket", le="+Inf", **success) == 2


def test_everything_that_can_happen_has_its_line_on_the_page(telemetry: Telemetry) -> None:
    telemetry.attempt("main", BASE, "settle", "success", 0.2)
    telemetry.classified("settle", "settlement", "reply_lost")
    telemetry.circuit_changed("main", BASE, "settle", "open")
    telemetry.finding(BASE, "paid")
    telemetry.late_confirmation(BASE, 70)
    telemetry.orphan_found(BASE)
    telemetry.orphan_replayed(BASE)
    telemetry.orphan_closed(BASE, "refunded")
    telemetry.unpaid_found(BASE)
    telemetry.duplicate(BASE)
    telemetry.open_settlements(BASE, 3)
    telemetry.rpc_call(BASE, "eth_getLogs", "ok", 0.01)
    telemetry.watcher_head(BASE, 1234)
    at = {"network": BASE}
    settle = {"facilitator": "main", "operation": "settle"}
    assert value(telemetry, "guardian_circuit_state", **settle, **at) == 2
    assert value(telemetry, "guardian_circuit_changes_total", state="open", **settle, **at) == 1
    assert value(telemetry, "guardian_chain_findings_total", kind="paid", **at) == 1
    assert value(telemetry, "guardian_late_confirmation_seconds_count", **at) == 1
    for name in ("orphans_found", "orphans_replayed", "unpaid_found", "duplicates"):
        assert value(telemetry, f"guardian_{name}_total", **at) == 1
    assert value(telemetry, "guardian_orphans_closed_total", how="refunded", **at) == 1
    assert value(telemetry, "guardian_open_settlements", **at) == 3
    assert value(telemetry, "guardian_watcher_head", **at) == 1234
    assert value(telemetry, "guardian_watcher_head_age_seconds", **at) >= 0
    shown = families(telemetry)
    assert {"guardian_facilitator_attempt_duration_seconds", "guardian_rpc_call_duration_seconds"} <= set(
        shown
    )
    assert shown["guardian_facilitator_attempt_duration_seconds"].type == "histogram"


def test_alert_counters_of_known_networks_stand_at_zero_before_the_first_event(telemetry: Telemetry) -> None:
    assert value(telemetry, "guardian_orphans_found_total", network=BASE) == 0
    assert value(telemetry, "guardian_unpaid_found_total", network=BASE) == 0


def test_the_page_names_the_version(telemetry: Telemetry) -> None:
    (sample,) = families(telemetry)["target_info"].samples
    assert (sample.labels["service_name"], sample.labels["service_version"]) == ("payment-guardian", "1.2.3")


def test_invented_networks_share_one_label_and_the_policys_keep_their_own() -> None:
    telemetry = Telemetry.create(service_version="1", networks=["solana:late"], environ={})
    for number in range(1000):
        telemetry.orphan_found(f"eip155:{number}")
    telemetry.orphan_found("solana:late")
    samples = [s for s in families(telemetry)["guardian_orphans_found"].samples if s.name.endswith("_total")]
    assert len(samples) == MAX_NETWORKS + 1
    assert value(telemetry, "guardian_orphans_found_total", network="solana:late") == 1
    assert sum(sample.value for sample in samples) == 1001
    telemetry.shutdown()


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\x00"])
def test_a_name_that_is_no_label_is_counted_as_other(telemetry: Telemetry, name: str) -> None:
    telemetry.duplicate(name)
    assert value(telemetry, "guardian_duplicates_total", network="other") == 1


def test_series_are_bounded_whatever_the_labels() -> None:
    values, times = Values("rule"), Distribution("d", "", (1.0,), ("rule",))
    for number in range(5000):
        values.add((f"r{number}",))
        values.put((f"g{number}",), 1)
        times.record((f"r{number}",), 0.5)
    assert len(values.cells) == MAX_SERIES + 1
    assert len(times.cells) == MAX_HISTOGRAM_SERIES + 1
    assert sum(sum(cell.counts) for cell in times.cells.values()) == 5000


def test_two_applications_in_one_process_count_apart() -> None:
    one, two = (Telemetry.create(service_version="1", networks=[BASE], environ={}) for _ in range(2))
    one.duplicate(BASE)
    assert value(one, "guardian_duplicates_total", network=BASE) == 1
    assert value(two, "guardian_duplicates_total", network=BASE) == 0
    one.shutdown()
    two.shutdown()


def test_the_page_can_be_read_from_a_thread_while_the_loop_counts(telemetry: Telemetry) -> None:
    async def run() -> None:
        reading = asyncio.get_running_loop().run_in_executor(None, telemetry.metrics_page)
        for number in range(400):
            telemetry.rpc_call(BASE, f"method{number}", "ok", 0.1)
            telemetry.classified("settle", "success", f"rule{number}")
            await asyncio.sleep(0)
        await reading

    asyncio.run(run())


def test_the_telemetry_of_a_settle_stays_out_of_its_way(telemetry: Telemetry) -> None:
    def settle() -> None:
        with telemetry.span(SpanName.SETTLE, network=BASE, facilitator="main"):
            telemetry.attempt("main", BASE, "settle", "success", 0.2)
        telemetry.classified("settle", "success", "success")
        telemetry.settle_answered(BASE, "main", "success", 0.2)

    best_us = min(timeit.repeat(settle, number=2000, repeat=5)) / 2000 * 1e6
    assert best_us < 30  # some 4 µs on an idle core; the SDK's own instruments take 40


def test_without_an_exporter_a_span_is_nothing(telemetry: Telemetry) -> None:
    with telemetry.span(SpanName.SETTLE, network=BASE) as span:
        assert span is INVALID_SPAN
        span.set_attribute("guardian.outcome", "success")


@pytest.fixture
def traced(telemetry: Telemetry) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.trace_with(provider)
    return exporter


def test_a_span_carries_listed_attributes_only(telemetry: Telemetry, traced: InMemorySpanExporter) -> None:
    with telemetry.span(SpanName.ATTEMPT, network=BASE, operation="settle", signature="0xsecret"):
        pass
    (span,) = traced.get_finished_spans()
    assert span.name == "guardian.attempt"
    assert dict(span.attributes or {}) == {"guardian.network": BASE, "guardian.operation": "settle"}


def test_spans_nest(telemetry: Telemetry, traced: InMemorySpanExporter) -> None:
    with telemetry.span(SpanName.SETTLE), telemetry.span(SpanName.ATTEMPT):
        pass
    inner, outer = traced.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id


@pytest.mark.parametrize("failure", [ValueError, asyncio.CancelledError])
def test_a_span_records_the_type_of_an_exception_and_not_its_text(
    telemetry: Telemetry, traced: InMemorySpanExporter, failure: type[BaseException]
) -> None:
    with pytest.raises(failure), telemetry.span(SpanName.SETTLE):
        raise failure("signature 0xsecret")
    (span,) = traced.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert "secret" not in span.to_json()
    assert span.status.description == failure.__name__


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OTLP collector that keeps what it was sent."""
    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


Collected = tuple[str, list[tuple[str, bytes]]]


def test_an_otlp_endpoint_gets_counters_histograms_and_spans(
    collector: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    telemetry = Telemetry.create(service_version="1")
    with telemetry.span(SpanName.SETTLE, network=BASE):
        telemetry.settle_answered(BASE, "main", "success", 0.2)
    telemetry.shutdown()
    telemetry.shutdown()
    sent = dict(got)
    assert set(sent) == {"/v1/traces", "/v1/metrics"}
    assert b"guardian.settle.answers" in sent["/v1/metrics"]
    assert b"guardian.settle.hold" in sent["/v1/metrics"]
    assert b"guardian.settle" in sent["/v1/traces"]
    assert b"payment-guardian" in sent["/v1/traces"]


def test_an_endpoint_for_metrics_alone_leaves_tracing_off(
    collector: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{url}/v1/metrics")
    telemetry = Telemetry.create(service_version="1")
    with telemetry.span(SpanName.SETTLE) as span:
        assert span is INVALID_SPAN
    telemetry.duplicate(BASE)
    telemetry.shutdown()
    assert {path for path, _ in got} == {"/v1/metrics"}


@pytest.mark.parametrize(
    ("otlp", "extra"),
    [(False, {}), (None, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"})],
)
def test_pushing_can_be_switched_off(otlp: bool | None, extra: dict[str, str]) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **extra}
    telemetry = Telemetry.create(service_version="1", otlp=otlp, environ=environ)
    with telemetry.span(SpanName.SETTLE) as span:
        assert span is INVALID_SPAN
    telemetry.shutdown()


def test_the_page_for_operators_lists_every_metric(telemetry: Telemetry) -> None:
    samples: dict[str, object] = {"str": "x", "int": 1, "float": 1.0, "Iterable": ()}
    for name, method in inspect.getmembers(telemetry, inspect.ismethod):
        wanted = inspect.signature(method)
        if not name.startswith("_") and wanted.return_annotation is None and name != "shutdown":
            takes = [one.annotation.__name__ for one in wanted.parameters.values()]
            if all(kind in samples for kind in takes):
                method(*(samples[kind] for kind in takes))
    page = Path(__file__).parents[1].joinpath("docs", "operations.md").read_text()
    shown = {name for name in families(telemetry) if name.startswith("guardian_")}
    shown = {name + "_total" if families(telemetry)[name].type == "counter" else name for name in shown}
    listed = {
        name
        for line in page.splitlines()
        if line.startswith("| `guardian_")
        for name in re.findall(r"`(guardian_[a-z_]+)`", line.split("|")[1])
    }
    assert shown == listed
