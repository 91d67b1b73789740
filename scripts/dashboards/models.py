"""What the models are, how new, how right, and how far the world has moved from what they learned."""

from __future__ import annotations

from typing import Any

from scripts.dashboards.panels import HALF, SIXTH, THIRD, bars, board, graph, number, rows_of

SCORE = '{signal="score"}'


def dashboard() -> Any:
    return board(
        "models",
        "Winnow / Models",
        "Bundles: which serve, how old their data is, what inference costs, whether predictions come true, drift.",
        [("Bundles", bundles()), ("Predictions", predictions()), ("Drift", drift()), ("Inference", inference())],
    )


def bundles() -> list[Any]:
    behind = "scalar(max(winnow_newest_event_timestamp_seconds)) - min by (kind) (winnow_bundle_data_timestamp_seconds)"
    return [
        rows_of(
            "What serves",
            "Kind, version in the registry, and bundle.",
            "count by (kind, version, bundle) (winnow_bundle_info)",
            span=HALF,
        ),
        bars(
            "Acts that a bundle does not know",
            "s",
            "How much older its newest act is than the newest event: a refresh of retrieval brings it to minutes.",
            (f"clamp_min({behind}, 0)", "{{kind}}"),
            warn=7_200,
            bad=172_800,
            span=THIRD,
        ),
        number(
            "Refused",
            "none",
            "Bundles that failed their checks within a day; the old one keeps serving.",
            "sum(increase(winnow_bundles_refused_total[1d]))",
            warn=1,
            bad=2,
        ),
        graph(
            "Time since the switch",
            "s",
            "How long the bundle serves, in the process that switched last.",
            ("time() - max by (kind) (winnow_bundle_loaded_timestamp_seconds)", "{{kind}}"),
            span=HALF,
        ),
        graph(
            "Bundles refused",
            "none",
            "By kind, an hour's.",
            ("sum by (kind) (increase(winnow_bundles_refused_total[1h]))", "{{kind}}"),
            span=HALF,
        ),
    ]


def predictions() -> list[Any]:
    observed = "sum by (bundle) (rate(winnow_outcome_observed_clicks_total[$__range]))"
    predicted = "sum by (bundle) (rate(winnow_outcome_predicted_clicks_total[$__range]))"
    return [
        bars(
            "Calibration",
            "none",
            "Clicks per predicted click on items that were seen, over the time shown: 1 is right, above 1 the model is"
            " too modest.",
            (f"{observed} / ({predicted} > 0)", "{{bundle}}"),
            warn=2,
            bad=4,
        ),
        graph(
            "Clicks, predicted and observed",
            "none",
            "A second, on items that were seen.",
            ("sum(rate(winnow_outcome_predicted_clicks_total[$__rate_interval]))", "predicted"),
            ("sum(rate(winnow_outcome_observed_clicks_total[$__rate_interval]))", "observed"),
        ),
    ]


def drift() -> list[Any]:
    return [
        number(
            "Drift of scores, PSI",
            "none",
            "Below 0.1 nothing moved, above 0.25 much did. Empty until 200 requests were ranked.",
            f"max(winnow_drift_psi{SCORE})",
            warn=0.1,
            bad=0.25,
            span=SIXTH,
        ),
        number(
            "Drift of scores, KS",
            "none",
            "Largest difference of the two distributions, 0 to 1.",
            f"max(winnow_drift_ks{SCORE})",
            warn=0.1,
            bad=0.2,
            span=SIXTH,
        ),
        graph(
            "Drift of scores by bundle",
            "none",
            "PSI against training, or against the first requests served where the bundle brings no reference.",
            (f"max by (bundle, reference) (winnow_drift_psi{SCORE})", "{{bundle}} against {{reference}}"),
            span=16,
        ),
        bars(
            "Features that moved most",
            "none",
            "PSI of people's numbers as the ranker reads them, the ten largest.",
            ('topk(10, max by (signal) (winnow_drift_psi{signal!="score"}))', "{{signal}}"),
            warn=0.1,
            bad=0.25,
        ),
        graph(
            "Features, KS",
            "none",
            "The five that moved most.",
            ('topk(5, max by (signal) (winnow_drift_ks{signal!="score"}))', "{{signal}}"),
        ),
    ]


def inference() -> list[Any]:
    models = 'backend=~"onnx|triton"'
    bucket = f"sum by (le, backend, operation) (rate(winnow_backend_seconds_bucket{{{models}}}[$__rate_interval]))"
    return [
        graph(
            "Inference p50",
            "s",
            "By where it runs and which part of a bundle.",
            (f"histogram_quantile(0.5, {bucket})", "{{backend}} {{operation}}"),
            span=THIRD,
        ),
        graph(
            "Inference p99",
            "s",
            "By where it runs and which part of a bundle.",
            (f"histogram_quantile(0.99, {bucket})", "{{backend}} {{operation}}"),
            span=THIRD,
        ),
        graph(
            "Inferences",
            "ops",
            "A second.",
            (
                f"sum by (backend, operation) (rate(winnow_backend_seconds_count{{{models}}}[$__rate_interval]))",
                "{{backend}} {{operation}}",
            ),
            span=THIRD,
        ),
    ]
