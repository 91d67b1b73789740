"""What people do with what they are shown, by the variant and the bundle that chose it."""

from __future__ import annotations

from typing import Any

from scripts.dashboards.panels import HALF, SIXTH, THIRD, board, graph, number

OF = 'variant=~"$variant",kind=~"$kind"'


def dashboard() -> Any:
    return board(
        "experiments",
        "Winnow / Experiments",
        "Rates of outcomes per variant, from events that carry the request_id of an answer. An item of a page counts"
        " once per type of event. What differs by chance and what does not is for a test over whole periods to say.",
        [("Now", now()), ("Variants", variants()), ("Bundles", bundles()), ("What is shown", shown())],
        by=["variant of winnow_answers_total", "kind of winnow_answers_total"],
    )


def had(kind: str, by: str, within: str) -> str:
    return f'sum by ({by}) (rate(winnow_outcomes_total{{{OF},type="{kind}"}}[{within}]))'


def per(what: str, of: str) -> str:
    return f"{what} / ({of} > 0)"


def revenue(by: str, within: str) -> str:
    sold = f"sum by ({by}) (rate(winnow_outcome_revenue_total{{{OF}}}[{within}]))"
    return per(sold, f"sum by ({by}) (rate(winnow_outcome_pages_total{{{OF}}}[{within}]))")


def now() -> list[Any]:
    within = "$__range"

    def all_of(kind: str) -> str:
        return f'sum(rate(winnow_outcomes_total{{{OF},type="{kind}"}}[{within}]))'

    told = f"sum(rate(winnow_outcomes_total[{within}]))"
    lost = f"sum(rate(winnow_outcome_unattributed_total[{within}]))"
    pages = f"sum(rate(winnow_outcome_pages_total{{{OF}}}[{within}]))"
    return [
        number(
            "Click-through rate",
            "percentunit",
            "Items clicked, of items seen, over the time shown.",
            per(all_of("click"), all_of("impression")),
            warn=0.01,
            bad=0.001,
        ),
        number(
            "Conversion rate",
            "percentunit",
            "Items bought, of items clicked, over the time shown.",
            per(all_of("purchase"), all_of("click")),
            warn=0.005,
            bad=0.0005,
        ),
        number(
            "Revenue per page",
            "none",
            "In the catalogue's currency, of pages of which an event came.",
            per(f"sum(rate(winnow_outcome_revenue_total{{{OF}}}[{within}]))", pages),
            warn=0.001,
            bad=0.0001,
        ),
        number(
            "Attributed",
            "percentunit",
            "Events that a page could be told of, of all events.",
            f"{told} / ({told} + {lost})",
            warn=0.5,
            bad=0.1,
            span=SIXTH,
        ),
    ]


def variants() -> list[Any]:
    every = "$__rate_interval"
    return [
        graph(
            "Answers",
            "reqps",
            "By variant.",
            (f"sum by (variant) (rate(winnow_answers_total{{{OF}}}[{every}]))", "{{variant}}"),
        ),
        graph(
            "Click-through rate",
            "percentunit",
            "Items clicked, of items seen.",
            (per(had("click", "variant", every), had("impression", "variant", every)), "{{variant}}"),
        ),
        graph(
            "Conversion rate",
            "percentunit",
            "Items bought, of items clicked.",
            (per(had("purchase", "variant", every), had("click", "variant", every)), "{{variant}}"),
        ),
        graph("Revenue per page", "none", "In the catalogue's currency.", (revenue("variant", every), "{{variant}}")),
        graph(
            "Outcomes",
            "none",
            "Items that had an event, a second, by type.",
            (f"sum by (variant, type) (rate(winnow_outcomes_total{{{OF}}}[{every}]))", "{{variant}} {{type}}"),
            span=24,
        ),
    ]


def bundles() -> list[Any]:
    every = "$__rate_interval"
    observed = f"sum by (bundle) (rate(winnow_outcome_observed_clicks_total{{{OF}}}[{every}]))"
    predicted = f"sum by (bundle) (rate(winnow_outcome_predicted_clicks_total{{{OF}}}[{every}]))"
    return [
        graph(
            "Click-through rate by bundle",
            "percentunit",
            "none: answers that nobody ranked.",
            (per(had("click", "bundle", every), had("impression", "bundle", every)), "{{bundle}}"),
            span=THIRD,
        ),
        graph(
            "Revenue per page by bundle",
            "none",
            "In the catalogue's currency.",
            (revenue("bundle", every), "{{bundle}}"),
            span=THIRD,
        ),
        graph(
            "Clicks per predicted click",
            "none",
            "1: predictions come true.",
            (per(observed, predicted), "{{bundle}}"),
            span=THIRD,
        ),
    ]


def shown() -> list[Any]:
    every = "$__rate_interval"
    bits = f"sum by (variant) (rate(winnow_shown_popularity_log2_total{{{OF}}}[{every}]))"
    weighed = f"sum by (variant) (rate(winnow_shown_weighed_items_total{{{OF}}}[{every}]))"
    poorer = f'sum by (variant) (rate(winnow_answers_total{{{OF},quality="poorer"}}[{every}]))'
    return [
        graph(
            "Novelty",
            "none",
            "Mean of -log2 of the share of recent acts of each item shown, in bits.",
            (f"scalar(log2(max(winnow_popularity_acts))) - {bits} / ({weighed} > 0)", "{{variant}}"),
            span=HALF,
        ),
        graph(
            "Poorer answers",
            "percentunit",
            "A variant that loses more stages is not compared fairly.",
            (f"{poorer} / sum by (variant) (rate(winnow_answers_total{{{OF}}}[{every}]))", "{{variant}}"),
            span=HALF,
        ),
    ]
