"""The spans of a trace: their names, what they may say, and how one is opened. No metrics.

Spans are free of cost while no exporter is configured.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from typing import Final

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN, Span, Status, StatusCode, Tracer

from guardian.exporting import SERVICE

# Span attributes: a positive list, so that nobody traces a signature by accident.
SPAN_ATTRIBUTES: Final = {
    "network": "guardian.network",
    "scheme": "guardian.scheme",
    "facilitator": "guardian.facilitator",
    "operation": "guardian.operation",
}


class SpanName(StrEnum):
    """The spans."""

    SETTLE = "guardian.settle"
    ATTEMPT = "guardian.attempt"


class Spans:
    """Where spans go, nowhere at first."""

    def __init__(self) -> None:
        self._traces: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def send_to(self, provider: TracerProvider) -> None:
        """To this provider, which `shutdown` then closes."""
        self._traces = provider
        self._tracer = provider.get_tracer(SERVICE)

    def open(
        self, name: SpanName, attributes: Mapping[str, str | int | float | bool]
    ) -> AbstractContextManager[Span]:
        """A span around a block. Attributes outside SPAN_ATTRIBUTES are dropped. An exception is recorded by
        its type only: its text may quote a request."""
        if self._tracer is None:
            return _NO_SPAN
        named = {SPAN_ATTRIBUTES[key]: value for key, value in attributes.items() if key in SPAN_ATTRIBUTES}
        return _span(self._tracer, name, named)

    def shutdown(self) -> None:
        """Push what is left, and open none from now on."""
        self._tracer = None
        if self._traces is not None:
            self._traces.shutdown()


_NO_SPAN: Final[AbstractContextManager[Span]] = nullcontext(INVALID_SPAN)


@contextmanager
def _span(
    tracer: Tracer, name: SpanName, attributes: Mapping[str, str | int | float | bool]
) -> Iterator[Span]:
    opened: Callable[..., AbstractContextManager[Span]] = tracer.start_as_current_span
    with opened(name, attributes=attributes, record_exception=False, set_status_on_exception=False) as span:
        try:
            yield span
        except BaseException as exc:
            span.set_status(Status(StatusCode.ERROR, type(exc).__name__))
            raise
