"""The tables of an evaluation: every figure with its interval, seeds beside each other, aims met or not."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from cli.evaluated import ranking_tables
from training.aims import Apart, Least
from training.found import Found, figures, gains
from training.intervals import Estimate

SIMPLE = ["ease", "popularity"]


def found(seed: int) -> Found:
    rng, one = np.random.default_rng(seed), Found(50)
    for place, model in enumerate(("ease", "popularity", "funnel")):
        own = rng.random(50) + place
        one.columns[model] = {"ndcg@10": own, "hr@10": own, "new_ndcg@10": np.where(np.arange(50) < 20, np.nan, own)}
        one.columns[model]["cold0_ndcg@10"] = own / 2
        one.whole[model] = {"coverage@10": Estimate(0.5, 0.01), "cold0_coverage@10": Estimate(0.25, 0.01)}
    one.whole["ranker"] = {f"{m}_click{s}": Estimate(0.8, 0.05) for m in ("auc", "ece") for s in ("", " rare")}
    return one


def printed(seeds: int) -> str:
    runs = [found(seed) for seed in range(seeds)]
    named = figures(runs)
    aims = [Least("funnel", "ndcg@10", 9.0).held(named), Apart("funnel", "ndcg@10", "ease").held(named)]
    document = {
        "seeds": [*range(seeds)],
        "models": named,
        "gains": {"funnel": gains(runs, "funnel", SIMPLE, ["ndcg@10", "cold0_ndcg@10"])},
        "aims": [aim.to_json() for aim in aims],
    }
    console = Console(width=160, record=True, file=io.StringIO())
    for table in ranking_tables("tiny", document):
        console.print(table)
    return console.export_text()


def test_every_table_that_has_rows_is_there() -> None:
    words = printed(seeds=2)
    for title in ("whole catalogue ranked", "tracks", "by seed", "best baseline", "newcomers", "predictions", "aims"):
        assert title in words, title
    assert "0.5000±0.0196" in words, "a mean and half its interval"
    assert "rare" in words
    assert words.count("yes") == 1
    assert "by seed" not in printed(seeds=1)


def test_the_best_baseline_is_named_and_newcomers_have_their_own_table() -> None:
    lines = [line for line in printed(seeds=1).splitlines() if "ndcg@10" in line and "popularity" in line]
    assert any("+" in line for line in lines)
    assert not any("cold0" in line for line in lines)
