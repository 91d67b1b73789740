"""The comparison of two models: what is beyond noise, and what is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.gate import CHANCE_Z, LEAST, compared

NAMES = ("old", "new")


@given(st.integers(0, 2**32 - 1), st.integers(LEAST, 400))
def test_the_same_answers_are_never_worse(seed: int, questions: int) -> None:
    column = np.random.default_rng(seed).random(questions)
    assert not compared(NAMES, {"ndcg@10": column}, {"ndcg@10": column.copy()}).worse


def test_equal_models_are_refused_about_once_in_a_hundred_times() -> None:
    rng = np.random.default_rng(3)
    refused = sum(
        bool(compared(NAMES, {"ndcg@10": rng.random(300)}, {"ndcg@10": rng.random(300)}).worse) for _ in range(3_000)
    )
    assert 10 <= refused <= 60


def test_a_worse_model_is_found_by_pairs_where_means_alone_would_hide_it() -> None:
    """Questions differ by far more than the models do."""
    hard = np.random.default_rng(4).random(500)
    slightly = hard - 0.01 + np.random.default_rng(5).normal(0, 0.02, 500)
    verdict = compared(NAMES, {"ndcg@10": hard}, {"ndcg@10": slightly})
    assert [measure.name for measure in verdict.worse] == ["ndcg@10"]
    assert hard.std() / np.sqrt(500) * CHANCE_Z > 0.01
    assert not compared(NAMES, {"ndcg@10": slightly}, {"ndcg@10": hard}).worse


def test_one_measure_that_falls_is_enough() -> None:
    rng = np.random.default_rng(6)
    column = rng.random(200)
    verdict = compared(
        NAMES, {"ndcg@10": column, "recall@100": column}, {"ndcg@10": column + 0.2, "recall@100": column - 0.2}
    )
    assert [measure.name for measure in verdict.worse] == ["recall@100"]
    assert "worse than old" in str(verdict)
    assert json.loads(json.dumps(verdict.to_json()))["worse"] == ["recall@100"]


@pytest.mark.parametrize("questions", [1, LEAST - 1])
def test_too_few_questions_say_nothing(questions: int) -> None:
    verdict = compared(NAMES, {"ndcg@10": np.ones(questions)}, {"ndcg@10": np.zeros(questions)})
    assert not verdict.worse
    assert "not comparable" in str(verdict)
