"""What answers are like: whole or not, how much of the catalogue they show, how popular it is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.gateway import shown as module
from services.gateway.outcomes import Outcomes
from services.gateway.shown import Shown
from tests.bundles import make_items
from tests.choices import decision
from winnow.catalogue import Catalogue
from winnow.types import Candidates, strings


@pytest.fixture
def shown() -> Shown:
    catalogue = Catalogue()
    catalogue.upsert(make_items(5_000))
    return Shown(catalogue, Outcomes(100), "default")


def count(name: str, **labels: str) -> float:
    by = {"kind": "recommend", "variant": "default"}
    return REGISTRY.get_sample_value(name, by | labels) or 0.0


def of(rows: list[int], acts: float = 0.0) -> Candidates:
    scores = np.full((len(rows), 2), math.log1p(acts), np.float32)
    return Candidates(
        strings([f"i{row}" for row in rows]), np.ones(len(rows), np.uint32), scores, ("tower", "trending")
    )


def test_an_answer_is_whole_poorer_or_empty(shown: Shown) -> None:
    qualities = ("whole", "poorer", "empty")
    before = [count("winnow_answers_total", quality=quality) for quality in qualities]
    whole = decision(skipped=())
    for one in (whole, whole, replace(whole, skipped=("ranking",)), replace(whole, rows=np.empty(0, np.int64))):
        shown.answered(one)
    after = [count("winnow_answers_total", quality=quality) for quality in qualities]
    assert np.subtract(after, before).tolist() == [2, 1, 1]


def test_coverage_counts_each_item_once_and_forgets_it_after_an_hour(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000
    monkeypatch.setattr(module, "minute", lambda: now)
    assert shown.distinct() == 0
    for rows in ([1, 2, 4_999], [2, 3], [2, 3]):
        found = of(rows)
        shown.answered(decision(candidates=found, predictions=None, rows=np.arange(len(rows))))
    assert shown.distinct() == 4
    now += 59
    assert shown.distinct() == 4
    now += 1
    assert shown.distinct() == 0


def test_items_that_the_catalogue_does_not_know_are_no_coverage(shown: Shown) -> None:
    found = replace(of([1]), item_ids=strings(["never heard of"]))
    shown.answered(decision(candidates=found, predictions=None, rows=np.arange(1)))
    assert shown.distinct() == 0


def test_popularity_is_in_bits(shown: Shown) -> None:
    before = count("winnow_shown_popularity_log2_total"), count("winnow_shown_weighed_items_total")
    shown.answered(decision(candidates=of([1, 2], acts=7), predictions=None, rows=np.arange(2)))
    assert count("winnow_shown_popularity_log2_total") - before[0] == pytest.approx(6)  # two of log2(1 + 7)
    assert count("winnow_shown_weighed_items_total") - before[1] == 2
