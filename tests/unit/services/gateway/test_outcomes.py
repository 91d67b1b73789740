"""What became of answers is counted once, for whatever made them, and costs no more memory than was allowed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.gateway.outcomes import ALL, BUNDLES, NOBODY, Outcomes
from tests.choices import candidates, decision
from tests.events import click
from winnow.decisions import Decision
from winnow.types import Event, EventType, Predictions

numbers = itertools.count()
SEEN, CLICK, BUY = EventType.IMPRESSION, EventType.CLICK, EventType.PURCHASE


@pytest.fixture(autouse=True)
def from_nothing() -> None:
    for metric in ALL:
        metric.clear()
    return


def page(request_id: str = "r", bundle: str = "k", ranked: bool = True) -> Decision:
    """Items i0, i1, i2 with P(click) 0.1, 0.2, 0.3."""
    heads = np.repeat(np.array([[0.1], [0.2], [0.3]], np.float32), 3, axis=1)
    predictions = Predictions(heads, heads[:, 0], bundle) if ranked else None
    found = candidates(3, [0.0] * 3)
    rows = np.arange(3)
    return decision(request_id=request_id, candidates=found, predictions=predictions, rows=rows)


def event(kind: EventType, item: str, request_id: str = "r", **more: Any) -> Event:
    return click(f"e{next(numbers)}", item, type=kind, request_id=request_id, **more)


def count(name: str, bundle: str = "k", **labels: str) -> float:
    by = {"kind": "recommend", "variant": "default", "bundle": bundle}
    return REGISTRY.get_sample_value(f"winnow_outcome{name}_total", by | labels) or 0.0


def test_an_event_counts_for_the_page_that_it_names() -> None:
    outcomes = Outcomes(10)
    outcomes.shown(page())
    outcomes.happened([event(SEEN, f"i{n}") for n in range(3)])
    outcomes.happened([event(CLICK, "i1"), event(BUY, "i1", value=4.5, quantity=2)])
    assert count("_pages") == 1
    assert [count("s", type=kind.value) for kind in (SEEN, CLICK, BUY)] == [3, 1, 1]
    assert count("_revenue") == 9.0
    assert count("_predicted_clicks") == pytest.approx(0.6)
    assert count("_observed_clicks") == 1


def test_a_page_that_nobody_ranked_counts_for_no_bundle_and_predicts_nothing() -> None:
    outcomes = Outcomes(10)
    outcomes.shown(page(ranked=False))
    outcomes.happened([event(SEEN, "i1"), event(CLICK, "i1")])
    assert count("s", NOBODY, type="click") == 1
    assert count("_predicted_clicks", NOBODY) == count("_observed_clicks", NOBODY) == 0


@given(st.permutations([SEEN, CLICK, BUY]), st.integers(1, 4))
def test_order_and_repetition_change_nothing(order: list[EventType], times: int) -> None:
    for metric in ALL:
        metric.clear()
    outcomes = Outcomes(10)
    outcomes.shown(page())
    for kind in order * times:
        outcomes.happened([event(kind, "i2", value=3.0)])
    assert [count("s", type=kind.value) for kind in order] == [1, 1, 1]
    assert (count("_revenue"), count("_observed_clicks"), count("_pages")) == (3.0, 1, 1)
    assert count("_predicted_clicks") == pytest.approx(0.3)


def test_a_click_without_an_impression_says_nothing_about_predictions() -> None:
    outcomes = Outcomes(10)
    outcomes.shown(page())
    outcomes.happened([event(CLICK, "i0")])
    assert count("s", type="click") == 1
    assert count("_observed_clicks") == 0


def lost(reason: str) -> float:
    return REGISTRY.get_sample_value("winnow_outcome_unattributed_total", {"reason": reason}) or 0.0


def test_what_cannot_be_told_is_counted_as_such() -> None:
    outcomes = Outcomes(10)
    outcomes.shown(page())
    before = [lost(reason) for reason in ("no_request", "unknown_request", "not_on_page")]
    outcomes.happened([event(CLICK, "i0", ""), event(CLICK, "i0", "another"), event(CLICK, "i9")])
    after = [lost(reason) for reason in ("no_request", "unknown_request", "not_on_page")]
    assert np.subtract(after, before).tolist() == [1, 1, 1]
    assert count("s", type="click") == 0


def test_only_the_newest_pages_are_remembered() -> None:
    outcomes = Outcomes(2)
    for n in range(3):
        outcomes.shown(page(f"r{n}"))
    outcomes.happened([event(CLICK, "i0", f"r{n}") for n in range(3)])
    assert count("s", type="click") == 2
    assert len(outcomes._pages) == 2


def test_series_of_bundles_that_are_gone_go() -> None:
    outcomes = Outcomes(1_000)
    for n in range(3 * BUNDLES):
        outcomes.shown(page(f"r{n}", f"k{n}"))
        outcomes.shown(replace(page(f"s{n}", "always")))
        outcomes.happened([event(CLICK, "i0", f"r{n}"), event(CLICK, "i0", f"s{n}")])
    outcomes.happened([event(CLICK, "i1", "r0")])  # of a bundle without series: it does not come back
    shown = {sample.labels["bundle"] for metric in ALL for family in metric.collect() for sample in family.samples}
    assert len(shown) == BUNDLES
    assert "always" in shown
    assert count("s", "always", type="click") == 3 * BUNDLES
