"""Intervals over people: values equal the plain metrics, and errors are what drawing people anew shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import metrics
from training.intervals import Estimate, auc, calibration_error, coverage, log_loss, of_mean, of_seeds
from winnow.features import Ints
from winnow.types import Floats

SEEDS = st.integers(0, 2**32 - 1)


def people(rng: np.random.Generator, n: int) -> tuple[Floats, Floats, Ints]:
    """Predictions and labels of n people, whose rows depend on each other: some people click on anything."""
    sizes = rng.integers(1, 12, n)
    taste = np.repeat(rng.normal(0, 1, n), sizes)
    liking = rng.normal(0, 1, sizes.sum())
    predicted = (1 / (1 + np.exp(2 - liking.round(1)))).astype(np.float32)
    labels = (rng.random(len(liking)) < 1 / (1 + np.exp(2 - liking - taste))).astype(np.float32)
    return predicted, labels, np.concatenate([[0], np.cumsum(sizes)])


def redrawn(rng: np.random.Generator, columns: tuple[Floats, Floats], starts: Ints) -> tuple[Floats, Floats, Ints]:
    """The same columns with people drawn anew."""
    who = rng.integers(0, len(starts) - 1, len(starts) - 1)
    rows = np.concatenate([np.arange(starts[p], starts[p + 1]) for p in who])
    ends = np.cumsum([starts[p + 1] - starts[p] for p in who])
    return columns[0][rows], columns[1][rows], np.concatenate([[0], ends])


@given(SEEDS, st.integers(2, 40))
@settings(max_examples=30, deadline=None)
def test_values_are_those_of_the_plain_metrics(seed: int, n: int) -> None:
    predicted, labels, starts = people(np.random.default_rng(seed), n)
    assert auc(predicted, labels, starts).value == pytest.approx(metrics.auc(predicted, labels), nan_ok=True)
    assert calibration_error(predicted, labels, starts).value == pytest.approx(
        metrics.calibration_error(predicted, labels)
    )
    losses = metrics.log_losses(predicted, labels)
    assert log_loss(losses, starts).value == pytest.approx(metrics.log_loss(predicted, labels))


def test_errors_are_what_drawing_people_anew_shows() -> None:
    rng = np.random.default_rng(1)
    predicted, labels, starts = people(rng, 400)
    drawn = [redrawn(rng, (predicted, labels), starts) for _ in range(300)]
    for measure in (auc, lambda p, y, s: log_loss(metrics.log_losses(p, y), s)):
        shown = float(np.std([measure(*one).value for one in drawn]))
        assert measure(predicted, labels, starts).error == pytest.approx(shown, rel=0.15)


def test_rows_of_one_person_are_not_independent() -> None:
    """Everybody's rows ten times over say nothing new."""
    predicted, labels, starts = people(np.random.default_rng(2), 100)
    own = [np.tile(np.arange(starts[p], starts[p + 1]), 10) for p in range(100)]
    rows, ends = np.concatenate(own), np.cumsum([len(one) for one in own])
    again = auc(predicted[rows], labels[rows], np.concatenate([[0], ends]))
    assert again.value == pytest.approx(auc(predicted, labels, starts).value)
    assert again.error == pytest.approx(auc(predicted, labels, starts).error, rel=1e-6)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    held = [(one := of_mean(rng.random(80) ** 3)).low <= 0.25 <= one.high for _ in range(2_000)]
    assert 0.92 < np.mean(held) < 0.97


def test_what_does_not_count_is_left_out_and_too_little_says_so() -> None:
    column = np.array([1.0, np.nan, 0.0, np.nan])
    assert of_mean(column).value == 0.5
    assert np.isinf(of_mean(column[:2]).error)
    assert of_mean(column[:2]).to_json() == {"mean": 1.0, "low": None, "high": None, "error": None}
    assert of_mean(column[1:2]).to_json()["mean"] is None


def test_seeds_add_what_they_differ_by() -> None:
    column = np.random.default_rng(4).random(200)
    alone = of_mean(column)
    assert of_seeds([column, column, column]).error == pytest.approx(alone.error)
    apart = of_seeds([column - 0.1, column, column + 0.1])
    assert apart.value == pytest.approx(alone.value)
    assert apart.error == pytest.approx(np.hypot(alone.error, 0.1 / np.sqrt(3)))


def test_coverage_counts_items_and_its_error_those_that_one_person_alone_was_shown() -> None:
    everybody = coverage([np.array([0, 1])] * 50, available=10)
    assert (everybody.value, everybody.error) == (0.2, pytest.approx(0.0, abs=1e-9))
    rng = np.random.default_rng(5)
    shown = [rng.zipf(1.4, 10) % 500 for _ in range(100)]
    found = coverage(shown, 500)
    assert found.value == len(np.unique(np.concatenate(shown))) / 500
    other = [coverage([rng.zipf(1.4, 10) % 500 for _ in range(100)], 500).value for _ in range(200)]
    assert 0.7 < found.error / np.std(other) < 2.0


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_intervals_that_touch_share_a_point(seed: int) -> None:
    one, other = (Estimate(*np.random.default_rng((seed, n)).random(2)) for n in range(2))
    assert one.touches(other) == other.touches(one) == (max(one.low, other.low) <= min(one.high, other.high))
