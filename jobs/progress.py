"""What a streaming query says of its batches, as a line in the log and as metrics. Knows nothing of the queries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BATCH_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Metrics:
    """Per query: how far behind it is, what it read, dropped and refused, and how long its batches take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge("winnow_stream_lag_records", "Records in Kafka not processed", ["query"], registry=registry)
        self.rows = Counter("winnow_stream_rows", "Records processed", ["query"], registry=registry)
        self.dead = Counter("winnow_stream_dead_letters", "Records that are no event", ["query"], registry=registry)
        self.late = Counter("winnow_stream_late_rows", "Rows behind the watermark", ["query"], registry=registry)
        self.seconds = Histogram(
            "winnow_stream_batch_seconds", "Of one batch", ["query"], buckets=BATCH_S, registry=registry
        )
        self.state = Gauge("winnow_stream_state_rows", "Rows of state", ["query"], registry=registry)
        self.running = Gauge("winnow_stream_running", "1 while the query runs", ["query"], registry=registry)
        self.failures = Counter("winnow_stream_failures", "Ends of a query by an error", ["query"], registry=registry)
        self.batch = Gauge("winnow_stream_batch", "Newest batch that is committed", ["query"], registry=registry)

    def count(self, report: Mapping[str, Any]) -> None:
        """Add one report (`StreamingQueryProgress` as JSON)."""
        name = report["name"]
        self.lag.labels(name).set(lag(report))
        self.rows.labels(name).inc(report["numInputRows"])
        self.dead.labels(name).inc(dead(report))
        self.late.labels(name).inc(late(report))
        self.seconds.labels(name).observe(report["batchDuration"] / 1000)
        self.state.labels(name).set(sum(one["numRowsTotal"] for one in report["stateOperators"]))
        self.batch.labels(name).set(report["batchId"])


def line(report: Mapping[str, Any]) -> str:
    """One batch in one line."""
    return (
        f"{report['name']}: batch {report['batchId']}, {report['numInputRows']} rows in"
        f" {report['batchDuration'] / 1000:.1f} s, lag {lag(report)}, dead {dead(report)}, late {late(report)}"
    )


def lag(report: Mapping[str, Any]) -> int:
    """Records that Kafka held, when the batch was planned, beyond the batch's end."""
    behind = 0
    for source in report["sources"]:
        read, there = offsets(source["endOffset"]), offsets(source["latestOffset"])
        behind += sum(offset - read.get(place, 0) for place, offset in there.items())
    return max(behind, 0)


def offsets(told: Any) -> dict[tuple[str, str], int]:
    """Offsets of a report: JSON, or JSON in a text, or nothing."""
    found = json.loads(told) if isinstance(told, str) and told else told
    return {(topic, n): offset for topic, numbers in (found or {}).items() for n, offset in numbers.items()}


def dead(report: Mapping[str, Any]) -> int:
    return sum(int(one.get("dead") or 0) for one in (report.get("observedMetrics") or {}).values())


def late(report: Mapping[str, Any]) -> int:
    return sum(int(one["numRowsDroppedByWatermark"]) for one in report["stateOperators"])
