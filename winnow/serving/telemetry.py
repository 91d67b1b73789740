"""Logs and metrics of a process: JSON lines with the request's id, Prometheus metrics by the field's conventions.

No personal data and no secret enters either: labels are stages, sources, methods and bundle versions.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from itertools import product
from typing import Any, TypeVar

import orjson
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics, start_http_server
from prometheus_client.exposition import choose_encoder

from winnow.errors import InvalidArgument, Unavailable
from winnow.secrets import without_credentials, without_words
from winnow.serving.address import LAST_PORT, reason
from winnow.serving.repeats import Repeats
from winnow.tracing import exemplar, trace_id

M = TypeVar("M", Counter, Histogram)

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task serves; empty outside requests."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nothing here asks for

# Dense where requests are fast, with a bound at each default budget (200, 400, 5000 ms) and at the objective (100 ms).
BUCKETS_S = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1.0, 2.5, 5.0),
)
BUCKETS_N = (0, 1, 10, 50, 100, 200, 300, 400, 500, 750, 1000)

STAGE_SECONDS = Histogram(
    "winnow_stage_seconds", "Time of one stage of a request", ["stage", "outcome"], buckets=BUCKETS_S
)
STAGE_SKIPPED = Counter("winnow_stage_skipped_total", "Optional stages that an answer went without", ["stage"])
CANDIDATES = Histogram("winnow_candidates", "Candidates per request that retrieval found", buckets=BUCKETS_N)
HTTP_REQUESTS = Counter("winnow_http_requests_total", "HTTP requests answered", ["route", "status"])
HTTP_SECONDS = Histogram("winnow_http_request_seconds", "Time of one HTTP request", ["route"], buckets=BUCKETS_S)
GRPC_REQUESTS = Counter("winnow_grpc_requests_total", "gRPC calls answered", ["method", "code"])
GRPC_SECONDS = Histogram("winnow_grpc_request_seconds", "Time of one gRPC call", ["method"], buckets=BUCKETS_S)
ACCESS = Counter(
    "winnow_access_total", "Requests that asked for access, by face and what came of it", ["face", "outcome"]
)
KEY_SETS = Counter(
    "winnow_key_sets_total", "Reads of verification keys, by source and whether they were taken", ["source", "outcome"]
)
RULE_SETS = Counter(
    "winnow_rule_sets_total", "Reads of changed business rules, by whether they were taken", ["outcome"]
)
RATES_FALLBACK = Counter("winnow_rate_limit_fallback_total", "Requests counted in this process because Redis was away")
CONNECTIONS_CLOSED = Counter("winnow_http_connections_closed_total", "Connections the HTTP face gave up on", ["reason"])
EVENTS = Counter("winnow_events_total", "Events taken, and duplicates among them", ["outcome"])
BUNDLE = Gauge("winnow_bundle_info", "1 for the bundle that is serving", ["kind", "version", "bundle"])
BUNDLE_LOADED = Gauge("winnow_bundle_loaded_timestamp_seconds", "When the bundle began to serve here", ["kind"])
BUNDLE_DATA = Gauge(
    "winnow_bundle_data_timestamp_seconds", "When the newest act happened that the bundle knows", ["kind"]
)
NEWEST_EVENT = Gauge(
    "winnow_newest_event_timestamp_seconds", "When the newest event happened that people's states include"
)
CATALOGUE_ITEMS = Gauge("winnow_catalogue_items", "Items that this process knows")
CATALOGUE_POSITION = Gauge("winnow_catalogue_position", "Position of the item log up to which this process knows items")
ITEM_LOG_POSITION = Gauge("winnow_item_log_position", "Position of the newest item that is written")
POPULARITY_ACTS = Gauge("winnow_popularity_acts", "Sum of 1 + acts lately over the items of the retrieval bundle")
BREAKER_OPEN = Gauge("winnow_breaker_open", "1 while a peer counts as down and nobody waits for it", ["peer"])
BUILD = Gauge("winnow_build_info", "1 for each process", ["component", "version"])
HOT_WRITES = Counter(
    "winnow_hot_writes_total",
    "Calls with events, by whether Redis had them in time: written, late or away",
    ["outcome"],
)
HOT_BEHIND = Gauge("winnow_hot_behind_rows", "Positions of the event log that Redis may lack")
ITEM_CHANGES = Counter("winnow_item_changes_total", "Catalogue writes told to Redis, or not", ["outcome"])
ACKNOWLEDGED = Counter(
    "winnow_events_acknowledged_total", "Calls with events answered, by what had them: disk, or broker too", ["by"]
)
FORWARDED = Counter("winnow_forwarded_total", "Rows of a log that the broker has acknowledged", ["topic"])
BACKLOG_ROWS = Gauge("winnow_forward_backlog_rows", "Rows on disk that the broker lacks", ["topic"])
BACKLOG_SECONDS = Gauge("winnow_forward_backlog_seconds", "Age of the oldest row that the broker lacks", ["topic"])
DECISIONS = Counter("winnow_decisions_total", "Decisions logged, by where they went: broker or disk", ["to"])
DECISIONS_DROPPED = Counter("winnow_decisions_dropped_total", "Decisions that found no room", ["reason"])
DECISIONS_WAITING = Gauge("winnow_decisions_disk_bytes", "Decisions on disk: kept, or waiting for the broker")
CONSUMED = Counter("winnow_consumed_total", "Messages whose effect is done", ["topic", "group"])
DEAD_LETTERS = Counter("winnow_dead_letters_total", "Messages that could not be read", ["topic", "reason"])
AUDITED = Counter("winnow_audit_records_total", "Records of the audit log, by their kind", ["kind"])
UNAUDITED = Counter("winnow_audit_unaudited_total", "Answers that no record names, by the reason", ["reason"])
AUDIT_SENT = Counter("winnow_audit_sent_total", "Records of the audit log that the broker has")
BUNDLES_REFUSED = Counter("winnow_bundles_refused_total", "Bundles that failed their checks at load", ["kind"])
SPANS = Counter(
    "winnow_spans_total", "Spans of traces: exported, failed on the way, or dropped for want of room", ["outcome"]
)

TALKATIVE = ("kafka", "httpx", "httpcore", "urllib3", "hpack")
"""Libraries whose debugging lines hold what is sent through them: keys of messages, which are ids, and addresses."""
REPETITIVE = ("kafka",)
"""Libraries that log every attempt to reach what is away: kafka-python ten lines a second, as long as that lasts."""

CERTIFICATE_EXPIRY = Gauge(
    "winnow_certificate_expiry_timestamp_seconds", "When a certificate in use ends, Unix time", ["certificate"]
)
CERTIFICATES_RENEWED = Counter("winnow_certificates_renewed_total", "Certificates taken in use anew", ["certificate"])
CERTIFICATES_REFUSED = Counter(
    "winnow_certificates_refused_total", "Changed certificates that cannot be served with", ["certificate"]
)

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, ids of request and trace, what was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        if trace := trace_id():
            line["trace_id"] = trace
        line |= {key: value for key, value in vars(record).items() if key not in STANDARD}
        if record.exc_info and record.exc_info[1]:
            line["exception"] = without_words(record.exc_info[1])
        return without_credentials(orjson.dumps(line, default=str).decode())


def configure_logging(level: str = "INFO") -> None:
    """Every logger of the process writes JSON lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in REPETITIVE:
        handler.addFilter(Repeats(name))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))


@lru_cache(maxsize=4096)
def series(metric: M, *labels: str | int) -> M:
    """The metric's series with these labels, in the order of their names: a look-up in prometheus_client costs as much as
    the count. For metrics whose series are never removed."""
    return metric.labels(*labels)


def observe_stage(stage: str, seconds: float, outcome: str) -> None:
    """Count one stage's outcome (a `winnow.pipeline.StageObserver`)."""
    series(STAGE_SECONDS, stage, outcome).observe(seconds, exemplar())
    if outcome == "skipped":
        STAGE_SKIPPED.labels(stage=stage).inc()


def begin(metric: Counter | Histogram, **labels: Sequence[str]) -> None:
    """Show these labels from the start, at 0: a series that appears with its first increment hides it from `rate`."""
    for values in product(*labels.values()):
        metric.labels(**dict(zip(labels, values, strict=True)))


def show_bundle(kind: str, version: str, bundle: str, data_at: float | None = None) -> None:
    """This bundle serves now, and no other of its kind. `data_at`: when the newest act happened that it knows."""
    for labels in [sample.labels for metric in BUNDLE.collect() for sample in metric.samples]:
        if labels["kind"] == kind:
            BUNDLE.remove(kind, labels["version"], labels["bundle"])
    BUNDLE.labels(kind=kind, version=version, bundle=bundle).set(1)
    BUNDLE_LOADED.labels(kind=kind).set_to_current_time()
    if data_at is not None:
        BUNDLE_DATA.labels(kind=kind).set(data_at)


def metrics_page(accept: str = "") -> tuple[bytes, Mapping[str, str]]:
    """The metrics of this process: body and headers. Who accepts OpenMetrics gets it, with exemplars."""
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), {"content-type": content_type}


def serve_metrics(address: str) -> None:
    """Expose the metrics of a process without an HTTP face on `host:port`; empty: not at all."""
    if not address:
        return
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= LAST_PORT):
        raise InvalidArgument(f"--metrics-address {address}: give host:port, for example 127.0.0.1:9100")
    try:
        start_http_server(int(port), host.strip("[]") or "0.0.0.0")
    except OSError as taken:
        raise Unavailable(
            f"cannot show metrics on {address}: {reason(taken)}; free it, or choose another by --metrics-address or"
            " WINNOW_METRICS_ADDRESS"
        ) from taken
