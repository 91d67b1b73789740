"""Events, features, decisions and jobs: whether what happens arrives, how late, and what is lost."""

from __future__ import annotations

from typing import Any

from scripts.dashboards.panels import HALF, SIXTH, THIRD, bars, board, graph, number


def dashboard() -> Any:
    return board(
        "data-plane",
        "Winnow / Data plane",
        "From an event to the features, Kafka, Spark and the next model. Acknowledged events are on disk, whatever this"
        " page says.",
        [
            ("Now", now()),
            ("Events", events()),
            ("Kafka", kafka()),
            ("Redis", redis()),
            ("Decisions and catalogue", kept()),
            ("Spark and scheduled jobs", jobs()),
        ],
    )


def now() -> list[Any]:
    return [
        number(
            "Age of the newest event",
            "s",
            "Since the newest event happened that people's states include.",
            "time() - max(winnow_newest_event_timestamp_seconds)",
            warn=900,
            bad=3_600,
        ),
        number(
            "Broker behind",
            "s",
            "Age of the oldest row that Kafka lacks.",
            "max(winnow_forward_backlog_seconds)",
            warn=10,
            bad=60,
        ),
        number(
            "Spark behind",
            "none",
            "Records in Kafka that no batch has processed, of the query that is furthest behind.",
            "max(winnow_stream_lag_records)",
            warn=10_000,
            bad=100_000,
        ),
        number(
            "Redis behind",
            "none",
            "Positions of the event log that Redis may lack.",
            "max(winnow_hot_behind_rows)",
            warn=100,
            bad=1_000,
        ),
        number(
            "Catalogue behind",
            "none",
            "Writes of items that the process furthest behind does not know.",
            "clamp_min(max(winnow_item_log_position) - min(winnow_catalogue_position), 0)",
            warn=100,
            bad=1_000,
        ),
        number(
            "Decisions lost",
            "none",
            "Within an hour.",
            "sum(increase(winnow_decisions_dropped_total[1h]))",
            warn=1,
            bad=100,
            span=SIXTH,
        ),
    ]


def events() -> list[Any]:
    return [
        graph(
            "Events taken",
            "reqps",
            "Events a second: new ones, and duplicates, which count once.",
            ("sum by (outcome) (rate(winnow_events_total[$__rate_interval]))", "{{outcome}}"),
        ),
        graph(
            "Calls with events by status",
            "reqps",
            "422: refused for what they say. 503: not known to be durable, the client sends them again.",
            ('sum by (status) (rate(winnow_http_requests_total{route="/v1/events"}[$__rate_interval]))', "{{status}}"),
        ),
        graph(
            "Acknowledged by",
            "reqps",
            "disk: the broker was late or away.",
            ("sum by (by) (rate(winnow_events_acknowledged_total[$__rate_interval]))", "{{by}}"),
            span=THIRD,
        ),
        graph(
            "Time of a write",
            "s",
            "From the gateway: to disk, to memory, and to Redis and Kafka as far as they are prompt.",
            *(
                (
                    (
                        f"histogram_quantile({q}, sum by (le)"
                        ' (rate(winnow_stage_seconds_bucket{stage="record"}[$__rate_interval])))'
                    ),
                    f"p{q * 100:g}",
                )
                for q in (0.5, 0.99)
            ),
            span=THIRD,
        ),
        graph(
            "Events that no page can be told of",
            "reqps",
            "no_request: without request_id. unknown_request: another gateway's page, or an old one.",
            ("sum by (reason) (rate(winnow_outcome_unattributed_total[$__rate_interval]))", "{{reason}}"),
            span=THIRD,
        ),
    ]


def kafka() -> list[Any]:
    return [
        graph(
            "Rows sent",
            "reqps",
            "That the broker acknowledged, by topic.",
            ("sum by (topic) (rate(winnow_forwarded_total[$__rate_interval]))", "{{topic}}"),
            span=THIRD,
        ),
        graph(
            "Backlog",
            "none",
            "Rows on disk that the broker lacks. It grows while the broker is away, and nothing is lost by that.",
            ("sum by (topic) (winnow_forward_backlog_rows)", "{{topic}}"),
            span=THIRD,
        ),
        backend("kafka"),
    ]


def redis() -> list[Any]:
    return [
        graph(
            "People's states",
            "reqps",
            "Calls with events, by whether Redis had the states in time: written, late or away.",
            ("sum by (outcome) (rate(winnow_hot_writes_total[$__rate_interval]))", "{{outcome}}"),
            span=THIRD,
        ),
        graph(
            "Failures of backends",
            "reqps",
            "Calls that Redis, Kafka or Triton failed, by what became of them.",
            (
                "sum by (backend, error) (rate(winnow_backend_failures_total[$__rate_interval]))",
                "{{backend}} {{error}}",
            ),
            span=THIRD,
        ),
        backend("redis"),
    ]


def backend(name: str) -> Any:
    bucket = f'winnow_backend_seconds_bucket{{backend="{name}"}}'
    return graph(
        f"p99 of {name.capitalize()}",
        "s",
        "By what is asked of it.",
        (
            f"histogram_quantile(0.99, sum by (le, operation) (rate({bucket}[$__rate_interval])))",
            "{{operation}}",
        ),
        span=THIRD,
    )


def kept() -> list[Any]:
    return [
        graph(
            "Decisions",
            "reqps",
            "Logged, by where they went, and dropped, by why.",
            ("sum by (to) (rate(winnow_decisions_total[$__rate_interval]))", "to {{to}}"),
            ("sum by (reason) (rate(winnow_decisions_dropped_total[$__rate_interval]))", "dropped: {{reason}}"),
            span=THIRD,
        ),
        graph(
            "Decisions on disk",
            "bytes",
            "Kept, or waiting for the broker.",
            ("max by (instance) (winnow_decisions_disk_bytes)", "{{instance}}"),
            span=THIRD,
        ),
        graph(
            "Items known",
            "none",
            "By process; all should agree within a second.",
            ("max by (instance) (winnow_catalogue_items)", "{{instance}}"),
            span=THIRD,
        ),
    ]


def jobs() -> list[Any]:
    batch = "sum by (le, query) (rate(winnow_stream_batch_seconds_bucket[$__rate_interval]))"
    return [
        graph("Spark's lag", "none", "Records, by query.", ("max by (query) (winnow_stream_lag_records)", "{{query}}")),
        graph(
            "Spark's records",
            "reqps",
            "Processed; dead: no event; late: behind the watermark.",
            ("sum by (query) (rate(winnow_stream_rows_total[$__rate_interval]))", "{{query}}"),
            ("sum(rate(winnow_stream_dead_letters_total[$__rate_interval]))", "dead"),
            ("sum(rate(winnow_stream_late_rows_total[$__rate_interval]))", "late"),
        ),
        graph(
            "Time of a batch, p99",
            "s",
            "By query.",
            (f"histogram_quantile(0.99, {batch})", "{{query}}"),
            span=THIRD,
        ),
        bars(
            "Queries that run",
            "none",
            "1: it runs. Failures restart from the checkpoint by themselves.",
            ("min by (query) (winnow_stream_running)", "{{query}}"),
            warn=0.9,
            bad=0.5,
            span=THIRD,
        ),
        bars(
            "Since a job was last done",
            "s",
            "refresh every 15 minutes, the ranker daily, both weekly.",
            ("time() - max by (task) (winnow_job_last_success_timestamp_seconds)", "{{task}}"),
            warn=90_000,
            bad=700_000,
            span=THIRD,
        ),
        graph(
            "Turns of jobs",
            "none",
            "By outcome, an hour's.",
            ("sum by (task, outcome) (increase(winnow_job_runs_total[1h]))", "{{task}} {{outcome}}"),
            span=HALF,
        ),
        graph(
            "Time of a job's last turn",
            "s",
            "By job.",
            ("max by (task) (winnow_job_seconds)", "{{task}}"),
            span=HALF,
        ),
    ]
