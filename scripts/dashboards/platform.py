"""Is it there, is it fast, is it right: what whoever is woken looks at first."""

from __future__ import annotations

from typing import Any

from scripts.dashboards.panels import HALF, THIRD, bars, board, graph, number, rows_of

API = 'route=~"/v1/.*"'
PAGES = 'route="/v1/recommendations"'
NAME = "{{component}} {{instance}}"


def dashboard() -> Any:
    return board(
        "platform",
        "Winnow / Platform",
        "Availability, latency and health of the whole. The objectives: 99.9 % of requests without a 5xx, 99 % of"
        " recommendations within 100 ms.",
        [("Promises", promises()), ("Traffic", traffic()), ("Inner calls", inner()), ("Processes", processes())],
    )


def promises() -> list[Any]:
    served = f"sum(rate(winnow_http_requests_total{{{API}}}[30m]))"
    failed = f'sum(rate(winnow_http_requests_total{{{API},status=~"5.."}}[30m]))'
    fast = f'sum(rate(winnow_http_request_seconds_bucket{{{PAGES},le="0.1"}}[30m]))'
    pages = f"sum(rate(winnow_http_request_seconds_count{{{PAGES}}}[30m]))"
    poorer = 'sum(rate(winnow_answers_total{quality="poorer"}[30m])) / sum(rate(winnow_answers_total[30m]))'
    return [
        number(
            "Availability",
            "percentunit",
            "Requests of the last 30 minutes that did not end in a 5xx.",
            f"1 - {failed} / {served}",
            warn=0.9995,
            bad=0.999,
        ),
        number(
            "Within 100 ms",
            "percentunit",
            "Recommendations of the last 30 minutes that were answered within the objective.",
            f"{fast} / {pages}",
            warn=0.995,
            bad=0.99,
        ),
        number(
            "p99 of recommendations",
            "s",
            "Over 5 minutes, at the gateway, over HTTP.",
            f"histogram_quantile(0.99, sum by (le) (rate(winnow_http_request_seconds_bucket{{{PAGES}}}[5m])))",
            warn=0.1,
            bad=0.4,
        ),
        number(
            "Poorer answers",
            "percentunit",
            "Answers of the last 30 minutes that went without a stage or a source.",
            poorer,
            warn=0.01,
            bad=0.1,
        ),
        number(
            "Requests",
            "reqps",
            "HTTP requests a second, all routes.",
            f"sum(rate(winnow_http_requests_total{{{API}}}[5m]))",
            warn=5_000,
            bad=20_000,
        ),
        number(
            "Processes up",
            "none",
            "Services that Prometheus reaches; a small platform has five.",
            "count(winnow_build_info)",
            warn=1,
            bad=0.5,
        ),
    ]


def traffic() -> list[Any]:
    bucket = f"sum by (le) (rate(winnow_http_request_seconds_bucket{{{PAGES}}}[$__rate_interval]))"
    return [
        graph(
            "Latency of recommendations",
            "s",
            "Quantiles at the gateway. A dot is one traced request: click it for its trace.",
            *((f"histogram_quantile({q}, {bucket})", f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
            exemplars=True,
        ),
        graph(
            "Requests by route",
            "reqps",
            "What is asked of the gateway.",
            ("sum by (route) (rate(winnow_http_requests_total[$__rate_interval]))", "{{route}}"),
        ),
        graph(
            "Requests by status",
            "reqps",
            "422: the client sent what is not allowed. 503: something that the request needs is away.",
            ("sum by (status) (rate(winnow_http_requests_total[$__rate_interval]))", "{{status}}"),
        ),
        graph(
            "p99 by route",
            "s",
            "All routes; writes wait for the disk.",
            (
                (
                    "histogram_quantile(0.99, sum by (le, route)"
                    ' (rate(winnow_http_request_seconds_bucket{route=~"/v1/.*"}[$__rate_interval])))'
                ),
                "{{route}}",
            ),
        ),
    ]


def inner() -> list[Any]:
    return [
        graph(
            "gRPC calls",
            "reqps",
            "By method, counted by whoever answers.",
            ("sum by (method) (rate(winnow_grpc_requests_total[$__rate_interval]))", "{{method}}"),
        ),
        graph(
            "gRPC p99",
            "s",
            "By method, measured by whoever answers: the network is not in it.",
            (
                "histogram_quantile(0.99, sum by (le, method) (rate(winnow_grpc_request_seconds_bucket[$__rate_interval])))",
                "{{method}}",
            ),
        ),
        graph(
            "gRPC calls by code",
            "reqps",
            "INTERNAL is a bug: the log has it whole. UNAVAILABLE and DEADLINE_EXCEEDED become skipped stages.",
            ("sum by (code) (rate(winnow_grpc_requests_total[$__rate_interval]))", "{{code}}"),
        ),
        bars(
            "Peers that count as down",
            "none",
            "1: a breaker is open, nobody waits for this peer.",
            ("max by (peer) (winnow_breaker_open)", "{{peer}}"),
            warn=0.5,
            bad=1,
        ),
    ]


def processes() -> list[Any]:
    component = "* on (job, instance) group_left (component) winnow_build_info"
    return [
        graph(
            "CPU",
            "none",
            "Cores in use by each process.",
            (f"sum by (component, instance) (rate(process_cpu_seconds_total[$__rate_interval]) {component})", NAME),
            span=THIRD,
        ),
        graph(
            "Memory",
            "bytes",
            "Resident memory of each process.",
            (f"sum by (component, instance) (process_resident_memory_bytes {component})", NAME),
            span=THIRD,
        ),
        graph(
            "Open files and connections",
            "none",
            "Against the limit of the process.",
            (f"sum by (component, instance) (process_open_fds {component})", NAME),
            span=THIRD,
        ),
        rows_of(
            "What runs",
            "Each process and its release.",
            "count by (component, version, instance) (winnow_build_info)",
            span=HALF,
        ),
        rows_of(
            "What serves",
            "The bundle of each kind, as each process says.",
            "count by (kind, version, bundle, instance) (winnow_bundle_info)",
            span=HALF,
        ),
    ]
