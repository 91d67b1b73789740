"""What an evaluation asks and says: tracks, newcomers, the ranker by segment, sources left out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from tests.training.evaluations import ByParity, PopularFirst
from tests.training.shops import shop
from tests.training.worlds import colour_world
from training import metrics
from training.dataset import Dataset, load
from training.diversity import Variety
from training.evaluate import COLD, evaluate
from training.found import Found, figures
from training.measures import Novelty
from training.questions import Question, newcomer, questions
from training.rankings import EvaluationSettings, ask, ranked_by
from training.source_mix import answered, mix
from training.split import split
from training.tested_predictions import labels_of, measured
from winnow.features import Ints
from winnow.types import HEADS

SETTINGS = EvaluationSettings(candidates=200, batch=7, newcomers=9)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(shop(tmp_path_factory.mktemp("shop")))


@pytest.fixture(scope="module")
def asked(dataset: Dataset) -> list[Question]:
    return questions(dataset, split(dataset, "evaluate"))


@pytest.fixture(scope="module")
def found(dataset: Dataset) -> Found:
    return asyncio.run(
        evaluate(
            dataset, split(dataset, "evaluate"), PopularFirst(dataset), ByParity(), SETTINGS, models={"none": Zero()}
        )
    )


class Zero:
    def scores(self, histories: Sequence[Ints]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.zeros((len(histories), 48))


def test_everybody_who_ranks_is_asked_the_same(found: Found, asked: list[Question]) -> None:
    assert set(found.models) == {"popularity", "markov1", "itemknn", "ease", "bought", "none", "retrieval", "funnel"}
    names = set(found.columns["funnel"])
    assert {"ndcg@10", "new_ndcg@10", "rebuy_ndcg@10", "revenue_ndcg@10", "novelty@10", "cold3_ndcg@10"} <= names
    for model, columns in found.columns.items():
        assert set(columns) == names, model
        assert all(len(column) == len(asked) for column in columns.values())
        assert {"coverage@10", *(f"cold{kept}_coverage@10" for kept in COLD)} == set(found.whole[model])
    named = figures([found])
    assert named["funnel"]["ndcg@10"]["mean"] > named["retrieval"]["ndcg@10"]["mean"]
    assert named["retrieval"]["ndcg@10"]["mean"] > named["none"]["ndcg@10"]["mean"]
    assert named["retrieval"]["ndcg@10"] == pytest.approx(named["popularity"]["ndcg@10"], abs=0.1)


def test_a_basket_is_answered_in_its_tracks(found: Found, asked: list[Question]) -> None:
    columns = found.columns["funnel"]
    for n, question in enumerate(asked):
        again = np.isin(question.relevant, question.history)
        assert np.isnan(columns["rebuy_ndcg@10"][n]) == (not again.any())
        assert np.isnan(columns["new_ndcg@10"][n]) == again.all()
    assert np.isfinite(columns["revenue_ndcg@10"]).all()


def test_a_newcomer_is_nobody_whom_a_model_has_met(dataset: Dataset, asked: list[Question]) -> None:
    for kept in COLD:
        one = newcomer(asked[0], kept)
        assert one.state.events == len(one.history) == kept
        assert one.state.person.user_id not in {person.user_id for person in dataset.people}
        assert one.state.traits == asked[0].state.traits
        assert one.history.tolist() == asked[0].history[len(asked[0].history) - kept :].tolist()
        assert one.relevant.tolist() == asked[0].relevant.tolist()


def test_newcomers_are_the_same_people_whatever_is_known_of_them(found: Found) -> None:
    columns = found.columns["funnel"]
    known = [np.isfinite(columns[f"cold{kept}_ndcg@10"]) for kept in COLD]
    assert all((mask == known[0]).all() for mask in known)
    assert known[0].sum() == SETTINGS.newcomers
    mean = {kept: float(np.nanmean(columns[f"cold{kept}_hr@20"])) for kept in COLD}
    assert mean[1] > mean[0], "one act tells the parity"


async def test_what_a_newcomer_had_acted_on_is_not_answered_where_nobody_acts_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = colour_world(tmp_path_factory.mktemp("colours"), people=12, items=60, acts=15)
    young = [newcomer(one, 1) for one in questions(dataset, split(dataset, "evaluate"))]
    outcome = await ask(young, PopularFirst(dataset), ByParity(), SETTINGS, repeat=False)
    places = (await ranked_by("none", Zero60(), dataset, SETTINGS)(young, False))["none"]
    for one, retrieved, ranked in zip(young, outcome.retrieved, places, strict=True):
        whole = dataset.acts.item[dataset.acts_of(one.person)][:-1]
        assert len(one.history) == 1
        assert not set(retrieved.tolist()) & set(whole.tolist())
        assert not set(ranked[:20].tolist()) & set(whole.tolist())
        assert set(one.relevant.tolist()) <= set(range(60)) - set(whole.tolist())


class Zero60(Zero):
    def scores(self, histories: Sequence[Ints]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.zeros((len(histories), 60))


async def test_the_rankers_figures_are_of_all_candidates_and_segments_make_up_the_whole(
    dataset: Dataset, asked: list[Question]
) -> None:
    outcome = await ask(asked, PopularFirst(dataset), ByParity(), SETTINGS, repeat=True)
    labels, parts = labels_of(asked, outcome), split(dataset, "evaluate")
    assert labels["click"].sum() == sum(len(one.relevant) for one in asked)
    assert labels["convert"].sum() == labels["click"].sum(), "all acts are purchases"
    paid = np.concatenate([one.paid for one in asked]).sum()
    assert labels["value"].sum() == pytest.approx(paid)
    said = measured(asked, outcome, dataset, parts.train)
    for column, head in enumerate(HEADS):
        predicted = outcome.heads[:, column]
        assert said[f"ece_{head}"].value == pytest.approx(metrics.calibration_error(predicted, labels[head]), rel=1e-5)
    assert said["auc_click"].value == pytest.approx(metrics.auc(outcome.heads[:, 0], labels["click"]))
    segments = {name.removeprefix("log_loss_click ") for name in said if name.startswith("log_loss_click ")}
    assert {"popular", "middle", "rare"} <= segments
    assert any(name.startswith("history") for name in segments)


async def test_what_a_source_adds_is_what_is_lost_without_it(dataset: Dataset, asked: list[Question]) -> None:
    every = await answered(asked, PopularFirst(dataset), SETTINGS)
    lame = await answered(asked, PopularFirst(dataset, hidden=30), SETTINGS)
    assert every["recall"].mean() == 1.0
    said = mix(every, {"popular": lame}, {"popular": every})["sources"]["popular"]
    assert said["recall"]["adds"]["mean"] == pytest.approx(1.0 - lame["recall"].mean(), abs=1e-6)
    assert said["nothing else finds"] == pytest.approx((lame["recall"] < 1).mean(), abs=1e-6)


def test_pages_of_one_kind_are_less_varied(dataset: Dataset, asked: list[Question]) -> None:
    vectors = np.eye(2, dtype=np.float32)[np.arange(len(dataset.items)) % 2]
    variety = Variety(dataset, vectors, Novelty(dataset, ~split(dataset, "evaluate").test))
    same = variety.columns(asked, [np.arange(0, 20, 2)] * len(asked))
    mixed = variety.columns(asked, [np.arange(10)] * len(asked))
    assert same["distance@10"].mean() == pytest.approx(0.0, abs=1e-6)
    assert mixed["distance@10"].mean() == pytest.approx(50 / 90, abs=1e-6)
    assert same["duplicates@10"].mean() == 9
    assert mixed["duplicates@10"].mean() == 8
    assert np.isfinite(mixed["age_days@10"]).all()
