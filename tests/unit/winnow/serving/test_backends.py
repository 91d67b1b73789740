"""Calls to backends are timed and their failures counted by kind; a measurement of a traced request leads to its trace."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from tests.spans import keeping
from winnow.errors import Unavailable
from winnow.serving.backends import asked, expect
from winnow.serving.telemetry import metrics_page, observe_stage
from winnow.tracing import arrive

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "0af7651916cd43dd8448eb211c80319d"
OPEN = "application/openmetrics-text; version=1.0.0"


async def request(trace: str, flags: str, stage: str) -> None:
    """A request that brings its trace, in a process that records; one stage of it is measured."""
    with keeping():
        arrive("HTTP", f"00-{trace}-b7ad6b7169203331-{flags}", face=True)
        observe_stage(stage, 0.004, "ok")


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
    asyncio.run(request(TRACE, "01", "exemplary"))
    open_metrics, headers = metrics_page(OPEN)
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert f'# {{trace_id="{TRACE}"}} 0.004' in open_metrics.decode()
    plain, headers = metrics_page()
    assert headers["content-type"].startswith("text/plain")
    assert TRACE not in plain.decode()


def test_a_request_that_is_not_kept_leaves_none() -> None:
    asyncio.run(request(OTHER, "00", "untraced"))
    assert OTHER not in metrics_page(OPEN)[0].decode()
