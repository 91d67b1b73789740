"""The bare models, on small bundles with the right signatures."""

from pathlib import Path

import numpy as np
import pytest

from bench import rankers
from bench.kernels import Finder, Scorer, time_steps
from tests.bundles import make_items, tiny_ranking_bundle, tiny_retrieval_bundle
from training.models.rankers import RANKERS


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    path: Path = tmp_path_factory.mktemp("ranking")
    return Scorer.load(tiny_ranking_bundle(path, make_items(200)), largest=100, table=150)


def test_the_split_ranker_and_the_plain_one_score_the_same_candidates_alike(scorer: Scorer) -> None:
    assert scorer.factorised(3, 60).shape == scorer.whole(3, 60).shape == (60, 3)
    assert scorer.difference(60) < 1e-4
    assert not np.allclose(scorer.factorised(3, 60), scorer.factorised(4, 60), atol=1e-4)


def test_every_step_is_timed_equally_often(scorer: Scorer) -> None:
    took = time_steps(scorer.steps(50) | scorer.races(100), seconds=0.2, at_least=5)
    assert set(took) == {"user_net", "cross_50", "100.plain", "100.factorised"}
    assert len({len(times) for times in took.values()}) == 1
    assert all((times > 0).all() for times in took.values())


def test_the_search_is_asked_with_what_the_tower_answers(tmp_path: Path) -> None:
    finder = Finder.load(tiny_retrieval_bundle(tmp_path, make_items(300)), wanted=500)
    steps = finder.steps()
    scores, rows = steps["search"](2)  # type: ignore[misc]
    assert scores.shape == rows.shape == (1, 300)
    expected = steps["user_tower"](2)["vector"] @ finder.index.reconstruct(int(rows[0, 0]))  # type: ignore[index]
    assert scores[0, 0] == pytest.approx(float(expected[0]), abs=1e-5)


def test_every_ranker_is_timed_over_the_same_candidates(tmp_path: Path) -> None:
    found = rankers.measure(tiny_ranking_bundle(tmp_path, make_items(60)), seconds=0.1, n=30, table=50)
    assert {name.split()[0] for name in found} == set(RANKERS)
    assert len(found) == len(RANKERS) * len(rankers.TOPS)
    assert all(0 < gather < rank for gather, rank in found.values())
    assert rankers.FIRST in rankers.table_of(found)
