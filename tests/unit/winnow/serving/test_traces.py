"""The way to the collector: what arrives there, and that nothing waits for it when it is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import REGISTRY
from pydantic import ValidationError

from parts.program import free_ports
from tests.otlp import collecting
from winnow.serving.trace_settings import TraceSettings, recorded
from winnow.serving.traces import SpanRecorder
from winnow.tracing import Kind, TraceContext, Tracer, arrive, record_with, recording, span

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Told(SpanExporter):
    """Answers as it is told, once it may."""

    def __init__(self, result: SpanExportResult = SpanExportResult.FAILURE) -> None:
        self.result = result
        self.may = threading.Event()
        self.may.set()
        self.calls = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.calls += 1
        self.may.wait(10)
        return self.result

    def shutdown(self) -> None:
        self.may.set()


def count(outcome: str) -> float:
    return REGISTRY.get_sample_value("winnow_spans_total", {"outcome": outcome}) or 0.0


def record(recorder: SpanRecorder, number: int) -> None:
    for _ in range(number):
        recorder.begin("ranking", Kind.INTERNAL, TraceContext(TRACE, PARENT, True), TRACE, {}).end({}, "")


def until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_what_is_recorded_arrives_with_its_place_and_its_words() -> None:
    with collecting() as collector:
        settings = TraceSettings(otlp_endpoint=collector.endpoint, trace_sample=1.0)
        with recorded(settings, "gateway"):
            assert recording()
            with arrive("POST /v1/events", "", own_id=TRACE, face=True), span("record"):
                pass
            with pytest.raises(ValueError), arrive("HTTP", f"00-{TRACE}-{PARENT}-01", "a=1", face=True):
                raise ValueError("Jane Doe, 4 Privet Drive")
        assert not recording()
    root, stage, other = sorted(collector.of(TRACE), key=lambda one: one.start_ns)
    assert (root.service, root.name, root.parent_id, root.kind) == ("gateway", "POST /v1/events", "", 2)
    assert (stage.name, stage.parent_id, stage.kind) == ("record", root.span_id, 1)
    assert (other.parent_id, other.failed, other.attributes) == (PARENT, True, {"error.type": "ValueError"})
    assert "Jane" not in "".join(collector.raw)
    assert '"traceState": "a=1"' in "".join(collector.raw)


def test_without_an_endpoint_nothing_is_recorded_and_no_library_is_loaded() -> None:
    with recorded(TraceSettings(otlp_endpoint=""), "gateway"):
        assert not recording()


@pytest.mark.parametrize("wrong", ["collector:4317", "http://user:secret@collector:4317", "ftp://c:1", "http://c/p?q"])
def test_an_endpoint_says_where_and_nothing_else(wrong: str) -> None:
    with pytest.raises(ValidationError, match="give http://host:port"):
        TraceSettings(otlp_endpoint=wrong)


def test_a_collector_that_refuses_is_counted_each_time_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    exporter, before = Told(), count("failed")
    recorder = SpanRecorder(exporter, "tests")
    for calls in (1, 2):
        record(recorder, 3)
        until(lambda calls=calls: count("failed") - before == 3 * calls)  # type: ignore[misc]
        assert exporter.calls >= calls  # one, where no batch ends in the middle
    exporter.result = SpanExportResult.SUCCESS
    record(recorder, 3)
    recorder.close()
    assert count("failed") - before == 6
    assert [line.getMessage() for line in caplog.records] == [
        "traces are not delivered: their collector is away, or refuses them",
        "traces are delivered again",
    ]


def test_a_collector_that_hangs_costs_no_time_and_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.serving.traces.EVERY_S", 60.0)  # a batch leaves when it is full, not in the middle
    exporter, before = Told(SpanExportResult.SUCCESS), count("dropped")
    exporter.may.clear()
    recorder = SpanRecorder(exporter, "tests", queue=10)
    began = time.monotonic()
    record(recorder, 10)
    until(lambda: exporter.calls == 1)  # hangs with a batch
    record(recorder, 50)
    assert time.monotonic() - began < 5
    assert count("dropped") - before == 40
    began = time.monotonic()
    recorder.close()
    assert time.monotonic() - began < 4


def test_a_collector_that_is_not_there_holds_up_no_end(caplog: pytest.LogCaptureFixture) -> None:
    [port] = free_ports(1)
    before = count("failed")
    with recorded(TraceSettings(otlp_endpoint=f"http://127.0.0.1:{port}", trace_sample=1.0), "tests"):
        for _ in range(20):
            arrive("HTTP", "", face=True).end()
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert count("failed") - before == 20
    assert [line.name for line in caplog.records] == ["winnow.serving.traces"]


def test_a_recorder_that_is_gone_leaves_open_spans_harmless() -> None:
    recorder = SpanRecorder(Told(SpanExportResult.SUCCESS), "tests")
    record_with(Tracer(recorder, 1.0, 100))
    open = arrive("HTTP", "", face=True)
    record_with(None)
    recorder.close()
    open.end({"http.route": "/"})
