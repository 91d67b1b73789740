"""Calls to backends are timed and their failures counted by kind; a measurement of a traced request leads to its trace."""

from __future__ import annotations

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from prometheus_client import REGISTRY

from winnow.errors import Unavailable
from winnow.serving.backends import asked, expect
from winnow.serving.telemetry import metrics_page, observe_stage

TRACE = "0af7651916cd43dd8448eb211c80319c"
OPEN = "application/openmetrics-text; version=1.0.0"


def counted(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_a_call_is_timed_and_its_failure_counted() -> None:
    expect("somewhere", ["look"])
    of = {"backend": "somewhere", "operation": "look"}
    assert counted("winnow_backend_failures_total", **of, error="Unavailable") == 0
    with asked("somewhere", "look"):
        pass
    with pytest.raises(Unavailable), asked("somewhere", "look"):
        raise Unavailable("away")
    assert counted("winnow_backend_seconds_count", **of) == 2
    assert counted("winnow_backend_failures_total", **of, error="Unavailable") == 1


def test_a_traced_request_leaves_an_exemplar_for_those_who_understand_it() -> None:
    span = SpanContext(int(TRACE, 16), 0xB7AD6B7169203331, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with use_span(NonRecordingSpan(span)):
        observe_stage("exemplary", 0.004, "ok")
    open_metrics, headers = metrics_page(OPEN)
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert f'# {{trace_id="{TRACE}"}} 0.004' in open_metrics.decode()
    plain, headers = metrics_page()
    assert headers["content-type"].startswith("text/plain")
    assert TRACE not in plain.decode()


def test_a_request_that_is_not_kept_leaves_none() -> None:
    span = SpanContext(int(TRACE, 16) + 1, 1, is_remote=True, trace_flags=TraceFlags(0))
    with use_span(NonRecordingSpan(span)):
        observe_stage("untraced", 0.004, "ok")
    assert f"{int(TRACE, 16) + 1:032x}" not in metrics_page(OPEN)[0].decode()
