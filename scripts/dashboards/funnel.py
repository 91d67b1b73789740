"""What happens to one request on its way: time, candidates and skips of each stage, and what comes out."""

from __future__ import annotations

from typing import Any

from scripts.dashboards.panels import HALF, THIRD, board, graph, number

STAGES = 'stage=~"$stage"'


def dashboard() -> Any:
    return board(
        "funnel",
        "Winnow / Funnel",
        "One request, stage by stage. A stage has a time budget; an optional one that is late or fails is skipped.",
        [("Stages", stages()), ("What comes out", out()), ("How wide it looks", wide())],
        by=["stage of winnow_stage_seconds_count"],
    )


def stages() -> list[Any]:
    bucket = f'sum by (le, stage) (rate(winnow_stage_seconds_bucket{{{STAGES},outcome="ok"}}[$__rate_interval]))'
    seconds = f"sum by (stage) (rate(winnow_stage_seconds_sum{{{STAGES}}}[$__rate_interval]))"
    return [
        graph(
            "p50 by stage", "s", "Of stages that were not skipped.", (f"histogram_quantile(0.5, {bucket})", "{{stage}}")
        ),
        graph(
            "p99 by stage",
            "s",
            "Of stages that were not skipped. A line that meets its budget (200 or 400 ms) is about to be skips.",
            (f"histogram_quantile(0.99, {bucket})", "{{stage}}"),
            exemplars=True,
        ),
        graph(
            "Where the time goes",
            "percentunit",
            "Each stage's part of all stages' time.",
            (f"{seconds} / scalar(sum({seconds}))", "{{stage}}"),
            span=THIRD,
        ),
        graph(
            "Outcomes",
            "reqps",
            "ok, skipped (an answer went without it) and failed (the request failed with it).",
            (f"sum by (outcome) (rate(winnow_stage_seconds_count{{{STAGES}}}[$__rate_interval]))", "{{outcome}}"),
            span=THIRD,
        ),
        graph(
            "Skipped, by stage",
            "reqps",
            "How often an answer went without it.",
            (f"sum by (stage) (rate(winnow_stage_skipped_total{{{STAGES}}}[$__rate_interval]))", "{{stage}}"),
            span=THIRD,
        ),
    ]


def out() -> list[Any]:
    found = "sum by (le) (rate(winnow_candidates_bucket[$__rate_interval]))"
    return [
        graph(
            "Answers by quality",
            "reqps",
            "whole; poorer: a stage or a source was skipped; empty: no item.",
            ("sum by (quality) (rate(winnow_answers_total[$__rate_interval]))", "{{quality}}"),
        ),
        graph(
            "Candidates that retrieval found",
            "none",
            "Quantiles. Few candidates: a narrow filter, somebody who has seen nearly all, or lost sources.",
            (f"histogram_quantile(0.5, {found})", "half have fewer"),
            (f"histogram_quantile(0.05, {found})", "one in twenty has fewer"),
        ),
        graph(
            "Items per answer",
            "none",
            "Mean, by kind of request.",
            (
                (
                    "sum by (kind) (rate(winnow_shown_items_total[$__rate_interval]))"
                    " / sum by (kind) (rate(winnow_answers_total[$__rate_interval]))"
                ),
                "{{kind}}",
            ),
            span=HALF,
        ),
        graph(
            "Share of poorer answers",
            "percentunit",
            "By kind of request.",
            (
                (
                    'sum by (kind) (rate(winnow_answers_total{quality="poorer"}[$__rate_interval]))'
                    " / sum by (kind) (rate(winnow_answers_total[$__rate_interval]))"
                ),
                "{{kind}}",
            ),
            span=HALF,
        ),
    ]


def wide() -> list[Any]:
    bits = "sum by (kind) (rate(winnow_shown_popularity_log2_total[$__rate_interval]))"
    weighed = "sum by (kind) (rate(winnow_shown_weighed_items_total[$__rate_interval]))"
    return [
        number(
            "Coverage",
            "percentunit",
            "Different items shown within an hour by the gateway that showed most, of all items.",
            "max(winnow_shown_distinct_items) / max(winnow_catalogue_items)",
            warn=0.05,
            bad=0.01,
        ),
        graph(
            "Different items shown within an hour",
            "none",
            "By gateway: they do not add up, because gateways show the same items.",
            ("max by (instance) (winnow_shown_distinct_items)", "{{instance}}"),
            span=10,
        ),
        graph(
            "Novelty",
            "none",
            "Mean of -log2 of the share of recent acts of each item shown, in bits: higher is less well known.",
            (f"scalar(log2(max(winnow_popularity_acts))) - {bits} / {weighed}", "{{kind}}"),
            span=10,
        ),
    ]
