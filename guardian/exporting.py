"""How metrics and traces leave the process: Prometheus' page, OTLP by the standard variables. No names.

The readers hand on our own histograms (series.py) as finished data points: OpenTelemetry has no
observable histogram.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry

from guardian.series import Distribution

SERVICE: Final = "payment-guardian"


def _metric(distribution: Distribution) -> Metric:
    now_ns = time.time_ns()
    points = []
    for key, cell in distribution.cells.copy().items():
        counts = cell.counts.copy()
        point = HistogramDataPoint(
            attributes=dict(zip(distribution.labels, key, strict=True)),
            start_time_unix_nano=distribution.start_ns,
            time_unix_nano=now_ns,
            count=sum(counts),
            sum=cell.total,
            bucket_counts=counts,
            explicit_bounds=distribution.bounds,
            min=cell.low,
            max=cell.high,
        )
        points.append(point)
    data = Histogram(points, AggregationTemporality.CUMULATIVE)
    return Metric(distribution.name, distribution.description, "s", data)


def _with_distributions(data: MetricsData, distributions: Sequence[Distribution]) -> MetricsData:
    metrics = [_metric(one) for one in distributions if one.cells]
    if not metrics or not data.resource_metrics:
        return data
    first, *others = data.resource_metrics
    scopes = list(first.scope_metrics)
    # Into the scope that is there: the OTLP encoder keeps one list per scope, and would drop the other.
    for index, scope in enumerate(scopes):
        if scope.scope.name == SERVICE:
            scopes[index] = replace(scope, metrics=[*scope.metrics, *metrics])
            break
    else:
        scopes.append(ScopeMetrics(scope=InstrumentationScope(SERVICE), metrics=metrics, schema_url=""))
    return MetricsData([replace(first, scope_metrics=scopes), *others])


class PrometheusReader(PrometheusMetricReader):
    """The SDK's reader, with our histograms added to what it read."""

    def __init__(self, distributions: Sequence[Distribution], registry: CollectorRegistry) -> None:
        self._distributions = distributions
        super().__init__(scope_info_enabled=False, registry=registry)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        whole = _with_distributions(metrics_data, self._distributions)
        super()._receive_metrics(whole, timeout_millis, **kwargs)


class OtlpReader(PeriodicExportingMetricReader):
    """The SDK's pushing reader, with our histograms added to what it read."""

    def __init__(self, distributions: Sequence[Distribution]) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        self._distributions = distributions
        super().__init__(OTLPMetricExporter())

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        whole = _with_distributions(metrics_data, self._distributions)
        super()._receive_metrics(whole, timeout_millis, **kwargs)


def exports(signal: str, environ: Mapping[str, str]) -> bool:
    """Whether the standard OTEL_* variables ask for an OTLP export of TRACES or METRICS."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() == "none":
        return False
    return any(
        environ.get(name, "").strip()
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    )


def standard_resource(service_version: str) -> Resource:
    """What is said of this process, by the standard OTEL_* variables where they say it."""
    resource = Resource.create(
        {SERVICE_VERSION: service_version}
    )  # reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
    if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: SERVICE}))
    return resource


def tracer_provider(resource: Resource) -> TracerProvider:
    """Spans to where the standard OTEL_* variables say."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
