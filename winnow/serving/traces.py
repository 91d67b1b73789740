"""Spans to an OpenTelemetry collector, by its own SDK: the one place that knows the library.

Spans wait in a queue of so many and leave in batches from a thread; what finds no room, or cannot be delivered, is
counted and told once. Serving never waits for any of it. Headers and certificates of the way to the collector are the
SDK's own settings (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_RESOURCE_ATTRIBUTES`).
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState, set_span_in_context
from opentelemetry.trace import Span as LibrarySpan
from opentelemetry.trace.status import Status, StatusCode

from winnow.serving.telemetry import SPANS
from winnow.tracing import Attributes, Kind, TraceContext

QUEUE = 2_048  # spans
BATCH = 512
EVERY_S = 1.0  # a batch leaves, however small
EXPORT_S = 5.0  # of one batch, its repetitions included
CLOSE_S = 2.0  # for what waits at the end
MAX_VALUE = 200  # characters of an attribute
MAX_ATTRIBUTES = 32

KINDS = {kind: SpanKind[kind.name] for kind in Kind}
SAMPLED = TraceFlags(TraceFlags.SAMPLED)

log = logging.getLogger(__name__)


def exporter_to(endpoint: str) -> SpanExporter:
    """OTLP over gRPC."""
    return OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)


class Ids(RandomIdGenerator):
    """The SDK asks for a trace's id without saying of which: it is laid out just before."""

    def __init__(self) -> None:
        self.next = threading.local()

    def generate_trace_id(self) -> int:
        return int(self.next.trace_id, 16)


class Begun:
    """A span of the SDK (`winnow.tracing.Open`)."""

    __slots__ = ("_span", "context")

    def __init__(self, span: LibrarySpan, context: TraceContext) -> None:
        self._span = span
        self.context = context

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def end(self, attributes: Attributes, error: str) -> None:
        self._span.set_attributes(dict(attributes))
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class SpanRecorder:
    """`winnow.tracing.Recorder`, for the process that `service` names."""

    def __init__(self, exporter: SpanExporter, service: str, *, queue: int = QUEUE) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # said here, once, instead of with every batch
        self._ids = Ids()
        self._exporter = Delivery(exporter)
        self._processor = Waiting(self._exporter, queue)
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what comes here is sampled
            resource=Resource.create(
                {
                    "service.namespace": "winnow",
                    "service.name": service,
                    "service.instance.id": socket.gethostname(),
                }
            ),
            id_generator=self._ids,
            span_limits=SpanLimits(max_span_attributes=MAX_ATTRIBUTES, max_span_attribute_length=MAX_VALUE),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("winnow")

    def begin(self, name: str, kind: Kind, parent: TraceContext | None, trace_id: str, attributes: Attributes) -> Begun:
        self._ids.next.trace_id = trace_id
        span = self._tracer.start_span(name, below(parent), KINDS[kind], dict(attributes))
        own = TraceContext(trace_id, f"{span.get_span_context().span_id:016x}", True, parent.state if parent else "")
        return Begun(span, own)

    def close(self) -> None:
        """Deliver what waits, within `CLOSE_S`: a collector that is away must not hold up the end of a process."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        if ending.is_alive():
            self._exporter.shutdown()
            ending.join(1.0)


def below(parent: TraceContext | None) -> Context:
    """The SDK's word for what a span belongs to."""
    if parent is None:
        return Context()
    state = TraceState.from_header([parent.state]) if parent.state else None
    there = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), parent.remote, SAMPLED, state)
    return set_span_in_context(NonRecordingSpan(there), Context())


class Delivery(SpanExporter):
    """Counts what the collector took and what it did not; the first failure in a row is told."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False
        self.taken = 0  # spans that left the queue

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._exporter.export(spans)
        delivered = result is SpanExportResult.SUCCESS
        SPANS.labels(outcome="exported" if delivered else "failed").inc(len(spans))
        if delivered and self._failing:
            log.info("traces are delivered again")
        elif not delivered and not self._failing:
            log.warning("traces are not delivered: their collector is away, or refuses them")
        self._failing = not delivered
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Waiting(BatchSpanProcessor):
    """The SDK's queue, in which the newest is left out, and counted, when it is full; its own drops the oldest."""

    def __init__(self, delivery: Delivery, most: int) -> None:
        super().__init__(
            delivery,
            max_queue_size=most + 1,
            schedule_delay_millis=EVERY_S * 1000,
            max_export_batch_size=min(BATCH, most),
        )
        self._delivery = delivery
        self._most = most
        self._lock = threading.Lock()
        self._put = 0

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            fits = self._put - self._delivery.taken < self._most
            self._put += fits
        if fits:
            super().on_end(span)
        else:
            SPANS.labels(outcome="dropped").inc()
