"""Slopes, shifts and corners that make probabilities true, and the measures that say so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss as reference_log_loss
from sklearn.metrics import roc_auc_score

from training.calibration import KINDS, Calibration, Kind, fit_calibration
from training.metrics import auc, calibration_error, list_ndcg, log_loss

TRUE = Calibration((1.0, 0.7, 1.3), (0.0, 0.4, -0.2))
SCALE = 12.0


def draw(n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Logits (n, 3) of which `TRUE` is the truth, and what happened."""
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, 3)) * 1.5 + [-3.5, 0.0, 0.0]).astype(np.float32)
    heads = TRUE.heads(logits, SCALE)
    click = rng.random(n) < heads[:, 0]
    convert = click & (rng.random(n) < heads[:, 1] / heads[:, 0])
    value = np.where(click, rng.gamma(0.5, heads[:, 2] / heads[:, 0] / 0.5), 0.0).astype(np.float32)
    return logits, click, convert, value


def distorted(logits: np.ndarray) -> np.ndarray:
    """As an overconfident model trained at another base rate would give them."""
    return (logits * 2.5 + [3.0, -1.0, 1.0]).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_makes_all_three_heads_truer_on_rows_it_has_not_seen(kind: Kind) -> None:
    logits, *labels = draw(60_000, seed=1)
    fitted = fit_calibration(distorted(logits), *labels, SCALE, kind)
    logits, *labels = draw(60_000, seed=2)
    before, after = (c.heads(distorted(logits), SCALE) for c in (Calibration(), fitted))
    for head, happened in enumerate(labels):
        error = calibration_error(after[:, head], happened)
        assert error < 0.2 * calibration_error(before[:, head], happened)
        assert error < 0.2 * happened.mean()
        assert after[:, head].mean() == pytest.approx(happened.mean(), rel=0.05)


def test_the_truth_is_found_again() -> None:
    logits, *labels = draw(200_000, seed=3)
    fitted = fit_calibration(logits, *labels, SCALE)
    assert fitted.slopes == pytest.approx(TRUE.slopes, abs=0.12)
    assert fitted.shifts == pytest.approx(TRUE.shifts, abs=0.12)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_calibration_never_turns_an_order_around(kind: Kind, direction: int) -> None:
    """Also where predictions are the wrong way round, and beyond all that was seen; rows that differ stay apart."""
    logits, *labels = draw(5_000, seed=4)
    fitted = fit_calibration(direction * logits, *labels, SCALE, kind)
    steps = np.linspace(-30.0, 30.0, 2_000)
    for head in range(3):
        assert (np.diff(fitted.line(head)(steps)) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_anything_to_learn_from_nothing_changes(kind: Kind) -> None:
    nothing = np.zeros(50, np.bool_)
    logits = np.zeros((50, 3), np.float32)
    assert fit_calibration(logits, nothing, nothing, nothing.astype(np.float32), SCALE, kind) == Calibration()


def test_corners_follow_an_error_that_no_slope_mends() -> None:
    """Unlikely rows are believed far too likely, likely ones are right."""
    errors = {}
    for kind in KINDS:
        logits, *labels = draw(50_000, seed=7)
        fitted = fit_calibration(bent(logits), *labels, SCALE, kind)
        logits, *labels = draw(50_000, seed=8)
        heads = fitted.heads(bent(logits), SCALE)
        errors[kind] = [calibration_error(heads[:, head], happened) for head, happened in enumerate(labels)]
    assert errors["isotonic"][0] < 0.6 * errors["platt"][0]
    assert all(corner < 1.1 * line for corner, line in zip(errors["isotonic"], errors["platt"], strict=True))


def bent(logits: np.ndarray) -> np.ndarray:
    return np.maximum(logits, 0.2 * logits - 1.5).astype(np.float32)


def test_auc_and_log_loss_are_the_textbook_ones() -> None:
    rng = np.random.default_rng(5)
    predicted = np.round(rng.random(2_000), 2)  # ties
    labels, weights = rng.random(2_000) < predicted, rng.gamma(1.0, 1.0, 2_000)
    assert auc(predicted, labels, weights) == pytest.approx(roc_auc_score(labels, predicted, sample_weight=weights))
    inside = np.clip(predicted, 0.01, 0.99)
    assert log_loss(inside, labels, weights) == pytest.approx(reference_log_loss(labels, inside, sample_weight=weights))
    assert np.isnan(auc(predicted, np.ones(2_000)))


def test_calibration_error_is_the_mean_gap() -> None:
    predicted, labels = np.full(1_000, 0.3), np.arange(1_000) < 100
    assert calibration_error(predicted, labels, bins=1) == pytest.approx(0.2)
    rng = np.random.default_rng(6)
    p = expit(rng.normal(-5.0, 1.0, 200_000))
    happened = rng.random(200_000) < p
    assert calibration_error(p, happened) < 0.12 * p.mean()
    assert calibration_error(p * 2, happened) == pytest.approx(p.mean(), rel=0.1)


def test_ndcg_of_lists_by_hand() -> None:
    labels = np.array([0, 1, 0, 0, 0, 1, 1, 0], np.bool_)
    starts = np.array([0, 3, 5, 8])
    place = list_ndcg(np.zeros(8), labels, starts, k=2)
    third = (1.0 + 1 / np.log2(3)) / (1.0 + 1 / np.log2(3))
    assert place == pytest.approx([1 / np.log2(3), 0.0, third])
    scores = np.array([0, 1, 0, 0, 0, -1, -1, 5], float)
    assert list_ndcg(scores, labels, starts, k=2) == pytest.approx(
        [1.0, 0.0, (1 / np.log2(3)) / (1.0 + 1 / np.log2(3))]
    )
