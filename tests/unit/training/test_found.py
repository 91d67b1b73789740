"""What evaluations found: kept, averaged over seeds, compared in pairs, and held against aims."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.aims import AIMS, Apart, Least, verdicts
from training.found import Found, figures, gains
from training.intervals import Estimate


def found(seed: int, lift: float = 0.05) -> Found:
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(9).random(300)
    one = Found(300)
    one.columns = {"ease": {"ndcg@10": hard}, "markov1": {"ndcg@10": hard - 0.2}}
    one.columns["funnel"] = {"ndcg@10": hard + lift + rng.normal(0, 0.01, 300)}
    one.whole = {
        "funnel": {"coverage@10": Estimate(0.5 + seed / 100, 0.01)},
        "ranker": {"auc_click": Estimate(0.9, 0.1)},
    }
    return one


def test_a_file_gives_back_what_was_kept(tmp_path: Path) -> None:
    one = found(0)
    one.save(tmp_path / "kept.npz")
    again = Found.load(tmp_path / "kept.npz")
    assert (again.asked, again.whole) == (one.asked, one.whole)
    for model, columns in one.columns.items():
        for name, column in columns.items():
            np.testing.assert_array_equal(again.columns[model][name], column)


def test_seeds_are_averaged_and_their_spread_is_shown() -> None:
    named = figures([found(0), found(1), found(2)])
    assert named["funnel"]["coverage@10"]["mean"] == pytest.approx(0.51)
    assert named["funnel"]["coverage@10"]["spread"] == pytest.approx(0.01)
    assert len(named["funnel"]["ndcg@10"]["seeds"]) == 3
    assert named["ease"]["ndcg@10"]["spread"] == 0
    assert "seeds" not in figures([found(0)])["funnel"]["ndcg@10"]
    json.dumps(named, allow_nan=False)


def test_a_gain_is_against_the_best_of_the_baselines_and_in_pairs() -> None:
    runs = [found(0), found(1)]
    gain = gains(runs, "funnel", ["ease", "markov1"], ["ndcg@10"])["ndcg@10"]
    assert gain["baseline"] == "ease"
    assert gain["mean"] == pytest.approx(0.05, abs=0.003)
    wide = figures(runs)["funnel"]["ndcg@10"]
    assert gain["high"] - gain["low"] < (wide["high"] - wide["low"]) / 5


def test_an_aim_stands_beside_its_figure() -> None:
    named = figures([found(0)])
    mean = named["funnel"]["ndcg@10"]["mean"]
    assert Least("funnel", "ndcg@10", mean - 0.01).held(named).met
    assert not Least("funnel", "ndcg@10", mean + 0.01).held(named).met
    assert Apart("funnel", "ndcg@10", "markov1").held(named).met
    assert not Apart("funnel", "ndcg@10", "ease").held(named).met, "better in pairs, but the intervals touch"
    assert verdicts("no such data", named) == []
    assert len(AIMS["online-retail"]) == 4
