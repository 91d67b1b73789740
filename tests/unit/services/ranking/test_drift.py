"""Drift is seen when it is there, silent when it is not, and measured against what the bundle's training saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from services.ranking.drift import FIRST, HALF_S, LEAST, SHOWN, Drift
from winnow.drift import BINS, Reference, ks, psi, shares_of

NAMES = ("age", "acts")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def people(rng: np.random.Generator, n: int, shift: float = 0.0) -> list[tuple[Any, Any]]:
    """Of each request scores of 50 candidates and two numbers."""
    return [(rng.beta(1 + shift, 20, 50).astype("f4"), (rng.normal(size=2) + shift).astype("f4")) for _ in range(n)]


def reference(rng: np.random.Generator) -> Reference:
    return Reference.of(("score", *NAMES), [rng.beta(1, 20, 20_000), *rng.normal(size=(2, 20_000))])


def test_what_did_not_move_is_below_a_tenth_and_what_did_is_above_a_quarter() -> None:
    rng = np.random.default_rng(1)
    for shift, right in ((0.0, lambda moved: moved < 0.1), (1.0, lambda moved: moved > 0.25)):
        drift = Drift("b", NAMES, reference(rng))
        for scores, numbers in people(rng, 600, shift):
            drift.observe(scores, numbers)
        said = drift.said()
        assert [name for name, _, _ in said] == ["score", *NAMES]
        assert all(right(moved) for _, moved, _ in said), said
        assert all(0 <= apart <= 1 for _, _, apart in said)


def test_few_requests_say_nothing() -> None:
    rng = np.random.default_rng(2)
    drift = Drift("b", NAMES, reference(rng))
    for scores, numbers in people(rng, LEAST - 1):
        drift.observe(scores, numbers)
    assert drift.said() == []
    drift.observe(*people(rng, 1)[0])
    assert len(drift.said()) == 3


def test_what_is_over_for_an_hour_is_forgotten() -> None:
    rng, clock = np.random.default_rng(3), Clock()
    drift = Drift("b", NAMES, reference(rng), clock=clock)

    def score_after(shift: float, requests: int = 300) -> float:
        for scores, numbers in people(rng, requests, shift):
            drift.observe(scores, numbers)
        return drift.said()[0][1]

    assert score_after(1.0, 3_000) > 0.25
    clock.now += HALF_S + 1
    assert score_after(0.0) > 0.25  # the half before still counts
    clock.now += HALF_S
    assert score_after(0.0) < 0.1
    clock.now += 5 * HALF_S
    assert drift.said() == []


def test_without_a_reference_the_first_requests_are_it() -> None:
    rng = np.random.default_rng(4)
    drift = Drift("b", NAMES)
    assert drift.origin == "first_served"
    for scores, numbers in people(rng, FIRST + LEAST):
        drift.observe(scores, numbers)
    assert all(moved < 0.15 for _, moved, _ in drift.said())
    for scores, numbers in people(rng, 1_000, 1.5):
        drift.observe(scores, numbers)
    assert all(moved > 0.25 for _, moved, _ in drift.said())


def test_a_reference_comes_back_from_json_as_it_was() -> None:
    before = reference(np.random.default_rng(5))
    after = Reference.from_json(before.to_json())
    assert after.names == before.names
    assert after.edges.tolist() == before.edges.tolist()
    assert np.allclose(after.shares, before.shares, atol=1e-6)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry: entry["shares"].pop(),
        lambda entry: entry["shares"].__setitem__(0, 0.9),
        lambda entry: entry["edges"].reverse(),
        lambda entry: entry["edges"].extend([1.0] * BINS),
    ],
)
def test_what_is_no_reference_is_refused(spoil: Callable[[dict[str, Any]], object]) -> None:
    document = reference(np.random.default_rng(6)).to_json()
    spoil(document["age"])
    with pytest.raises(ValueError):
        Reference.from_json(document)


def test_counting_many_signals_is_counting_each() -> None:
    rng = np.random.default_rng(7)
    one = reference(rng)
    values = rng.normal(size=(500, 3))
    values[::7, 1] = np.nan
    together = one.count(values)
    assert [together[n].tolist() for n in range(3)] == [one.count_one(n, values[:, n]).tolist() for n in range(3)]
    assert together.sum(axis=1).tolist() == [500] * 3


def test_psi_and_ks_by_hand() -> None:
    expected, seen = shares_of(np.array([[50, 50, *[0] * 8]])), shares_of(np.array([[25, 75, *[0] * 8]]))
    assert psi(expected, seen)[0] == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5))
    assert ks(expected, seen)[0] == pytest.approx(0.25)


def test_prometheus_sees_the_bundle_that_serves_and_no_other() -> None:
    rng = np.random.default_rng(8)
    before = SHOWN.drift
    try:
        for bundle in ("old", "new"):
            SHOWN.drift = Drift(bundle, NAMES, reference(rng))
            for scores, numbers in people(rng, LEAST):
                SHOWN.drift.observe(scores, numbers)
        labels = [sample.labels for family in SHOWN.collect() for sample in family.samples]
    finally:
        SHOWN.drift = before
    assert len(labels) == 2 * 3
    assert {(one["bundle"], one["reference"]) for one in labels} == {("new", "training")}
