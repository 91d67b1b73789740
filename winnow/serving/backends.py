"""What each backend costs and how it fails: one measurement around a call, with the same names wherever it is made.

Labels are a backend and a verb, both from the code. Knows no backend, and no address of one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from winnow.errors import WinnowError
from winnow.serving.telemetry import BUCKETS_S, begin, series
from winnow.tracing import exemplar

REDIS, KAFKA, TRITON, ONNX = "redis", "kafka", "triton", "onnx"

SECONDS = Histogram(
    "winnow_backend_seconds", "Time of one call to a backend", ["backend", "operation"], buckets=BUCKETS_S
)
FAILURES = Counter(
    "winnow_backend_failures_total",
    "Calls that a backend failed, by the error that the platform makes of it",
    ["backend", "operation", "error"],
)
ERRORS = ("Unavailable", "DeadlineExceeded")


@contextmanager
def asked(backend: str, operation: str) -> Iterator[None]:
    """Around one call: its time, and the kind of its failure."""
    started = time.perf_counter()
    try:
        yield
    except WinnowError as wrong:
        FAILURES.labels(backend, operation, type(wrong).__name__).inc()
        raise
    finally:
        series(SECONDS, backend, operation).observe(time.perf_counter() - started, exemplar())


def expect(backend: str, operations: Sequence[str]) -> None:
    """This process calls the backend so: no failure yet."""
    begin(FAILURES, backend=(backend,), operation=operations, error=ERRORS)
