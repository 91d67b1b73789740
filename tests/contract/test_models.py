"""Every retrieval model keeps one contract (training/models/contract.py): each is fitted once, on a world whose right
answer is visible, exported to a real bundle once, and asked by the serving code.

Who joins the catalogue joins here by one line of `SMALL`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.retrieval.build import build, load_bundle
from services.retrieval.service import RetrievalService
from services.retrieval.settings import Settings
from tests.bundles import SOURCES
from tests.training.circles import EXPECTED, WALKS, N, circle_world, everything
from tests.training.worlds import START_S
from training.dataset import Dataset
from training.interactions import interactions_of
from training.model_bundle import write_model_bundle
from training.models.catalogue import CATALOGUE, kind_of, make
from training.models.contract import Interactions, Model, Scores, Table, Towers
from training.refresh import made_again
from winnow.artifacts import TOGETHER, Bundle, file_hashes
from winnow.catalogue import Catalogue
from winnow.errors import InvalidArgument, NotFound
from winnow.features import Ints
from winnow.ports import RetrieveQuery, SimilarQuery
from winnow.types import History, Item, Person, UserState, strings

FEW: Mapping[str, Any] = {"dim": 16, "epochs": 20, "lr": 0.02, "warmup_steps": 0, "held": 0}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "ease": {"ridge": 5.0},
    "als": {"factors": 8, "regularization": 0.1, "iterations": 10},
    "bpr": {"factors": 8, "iterations": 200},
    "item2vec": {"dim": 16, "epochs": 40},
    "sasrec": {**FEW, "batch": 16, "layers": 1, "dropout": 0.0},
    "bert4rec": {**FEW, "batch": 16, "epochs": 40, "lr": 0.01, "layers": 1, "dropout": 0.0, "newest": 0.5},
    "gru4rec": {**FEW, "batch": 16, "hidden": 32, "dropout": 0.0},
    "lightgcn": {**FEW, "batch": 128},
    "hybrid": {**FEW, "batch": 16},
    "deepmf": {**FEW, "batch": 16, "hidden": 32},
}
"""Settings by model that learn the world below in a second or two."""

NEW_ONES = strings(["never seen", "i3", "gone"])
SILENT = 1e-6  # scores below are what popularity adds to a table, which serving leaves to another source
ORDERED = {"markov", "sasrec", "gru4rec"}
"""Models that learn what comes next from every act; the others know what goes together, BERT4Rec what stands between."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return circle_world(tmp_path_factory.mktemp("circles"))


@pytest.fixture(scope="module")
def data(dataset: Dataset) -> Interactions:
    assert [item.item_id for item in dataset.items] == [f"i{n}" for n in range(N)]
    return interactions_of(dataset, everything(dataset))


@pytest.fixture(scope="module")
def other(data: Interactions) -> Interactions:
    """The same people, who go round the other way and whose circles are other ones."""
    return Interactions(
        (N - 1 - data.items).copy(), data.starts, N, data.values, data.at, data.item_side, data.user_side
    )


@pytest.fixture(scope="module", params=list(CATALOGUE))
def model(request: pytest.FixtureRequest, data: Interactions) -> Model:
    return small(request.param).fit(data)


@pytest.fixture(scope="module")
def bundle(model: Model, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_model_bundle(dataset, everything(dataset), model, tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def retrieval(bundle: Bundle, dataset: Dataset) -> Iterator[RetrievalService]:
    """The serving code, in whose order the model's own source counts and no other."""
    catalogue = Catalogue()
    catalogue.upsert(reversed(dataset.items))
    own = "item_to_item" if TOGETHER in bundle.facts else "tower"
    settings = Settings(retrieval_shares={own: 1.0}, retrieval_weights={own: 1.0}, retrieval_floors={})
    with closing(build(settings, catalogue)) as service:
        service.use(load_bundle(service, bundle))
        yield service


def clicks(history: Ints) -> UserState:
    """Somebody whom no model has met, who clicked these items."""
    n = len(history)
    ids, kinds = strings([f"i{row}" for row in history]), strings(["click"] * n)
    acts = History(ids, kinds, np.full(n, np.nan, np.float32), START_S + np.arange(n, dtype=np.float64))
    return UserState(Person(user_id="never met"), known=n > 0, history=acts, seen=ids, events=n, watermark=n)


@pytest.fixture(scope="module")
def learnt(model: Model) -> Scores:
    return model.scores(WALKS)


def small(name: str, seed: int = 3) -> Model:
    return make(name, SMALL.get(name), seed)


def ndcg(scores: Scores, histories: list[Ints], expected: Ints) -> float:
    """NDCG@10 of the one right answer, what was acted on left out."""
    scores = scores.copy()
    for row, history in enumerate(histories):
        scores[row, history] = -np.inf
    right = scores[np.arange(len(expected)), expected]
    places = (scores > right[:, None]).sum(1) + ((scores == right[:, None]).sum(1) - 1) / 2
    return float(np.where(places < 10, 1 / np.log2(places + 2), 0.0).mean())


def test_it_keeps_the_protocol_and_says_what_a_search_may_vary(model: Model) -> None:
    assert isinstance(model, Model)
    assert kind_of(model.name) is type(model)
    assert type(model.settings) is model.settings_type
    assert all(hasattr(model.settings, name) for name in model.space)


def test_it_finds_what_popularity_does_not(model: Model, data: Interactions, learnt: Scores) -> None:
    found, popular = ndcg(learnt, WALKS, EXPECTED), ndcg(make("popularity").fit(data).scores(WALKS), WALKS, EXPECTED)
    if model.name == "popularity":
        assert found == popular < 0.2
    else:
        assert found > 2 * popular
    if model.name in ORDERED:
        assert found > 0.9


def test_scores_are_finite_and_an_empty_history_gets_the_popular_first(model: Model, data: Interactions) -> None:
    scores = model.scores([np.empty(0, np.int64), WALKS[0]])
    assert scores.shape == (2, N)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    counts = np.bincount(data.items, minlength=N)
    first = np.argsort(-scores[0], kind="stable")[:10]
    assert counts[first].mean() > counts.mean()
    assert model.scores([]).shape == (0, N)


def test_items_outside_the_catalogue_are_left_out(model: Model, learnt: Scores) -> None:
    unknown = np.array([-1], np.int64)
    scores = model.scores([np.concatenate([unknown, WALKS[0]]), unknown, np.empty(0, np.int64)])
    assert np.allclose(scores[0], learnt[0], atol=1e-6)
    assert np.allclose(scores[1], scores[2], atol=1e-6)


def test_the_same_seed_gives_the_same_model_and_a_second_fit_forgets_the_first(
    model: Model, data: Interactions, other: Interactions, learnt: Scores
) -> None:
    again = small(model.name).fit(other)
    assert not np.array_equal(again.scores(WALKS), learnt)
    assert np.array_equal(again.fit(data).scores(WALKS), learnt)


def test_saving_and_loading_changes_nothing(model: Model, learnt: Scores, tmp_path: Path) -> None:
    model.save(tmp_path / "new" / "model")
    loaded = type(model).load(tmp_path / "new" / "model")
    assert np.array_equal(loaded.scores(WALKS), learnt)
    assert (loaded.settings, loaded.seed) == (model.settings, model.seed)
    assert not list((tmp_path / "new" / "model").glob("*.pkl"))


def test_loading_refuses_a_folder_that_holds_something_else(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"holds no {model.name} model"):
        type(model).load(tmp_path)
    model.save(tmp_path)
    about = (tmp_path / "model.json").read_text().replace(f'"{model.name}"', '"another"')
    (tmp_path / "model.json").write_text(about)
    with pytest.raises(ValueError, match="another"):
        type(model).load(tmp_path)
    model.save(tmp_path)
    (tmp_path / "arrays.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=f"holds no {model.name} model"):
        type(model).load(tmp_path)


def test_what_it_serves_scores_as_it_does(model: Model, learnt: Scores) -> None:
    served = model.serves()
    if isinstance(served, Towers):
        assert served.vectors.dtype == np.float32
        assert len(served.vectors) == N
    else:
        assert isinstance(served, Table)
        assert len(served.neighbours[0]) == N


async def test_the_serving_code_ranks_by_its_bundle_as_it_does_and_leaves_out_what_was_seen(
    model: Model, retrieval: RetrievalService, bundle: Bundle, learnt: Scores
) -> None:
    column = retrieval_column(bundle)
    answers = await retrieval.retrieve([RetrieveQuery(clicks(history), 10) for history in WALKS])
    for history, scores, found in zip(WALKS, learnt, answers, strict=True):
        rows = np.array([int(item_id[1:]) for item_id in found.item_ids])
        assert not np.isin(rows, history).any()
        assert not found.skipped
        unseen = np.sort(np.delete(scores, history))[::-1][:10]
        said = unseen > SILENT if TOGETHER in bundle.facts else np.ones(10, np.bool_)
        assert said.any()
        np.testing.assert_allclose(found.scores[:, column][said], unseen[said], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scores[rows][said], unseen[said], rtol=1e-4, atol=1e-4)


async def test_serving_answers_people_without_a_history_and_knows_new_items(
    retrieval: RetrievalService, dataset: Dataset
) -> None:
    new = Item("never seen", title="Stop 3", categories=("circle 2",))
    retrieval.changed(retrieval._catalogue.upsert([new]))
    await retrieval.settled()
    state = replace(clicks(np.arange(3)), history=replace(clicks(np.arange(3)).history, item_ids=NEW_ONES))
    found = await retrieval.retrieve([RetrieveQuery(clicks(np.arange(0)), N + 1), RetrieveQuery(state, N)])
    assert set(found[0].item_ids) == {*dataset.item_ids, new.item_id}
    assert np.isfinite(found[0].scores).all()
    assert np.isfinite(found[1].scores).all()
    similar = await retrieval.similar(SimilarQuery((new.item_id, "i3"), 5))
    assert len(similar) == 5


def test_a_refresh_keeps_what_was_learnt(bundle: Bundle, dataset: Dataset, tmp_path: Path) -> None:
    made = made_again(bundle, dataset, np.arange(len(dataset.acts)) < len(dataset.acts) // 2, tmp_path)
    kept = ["item_vectors.npy", "user_tower.onnx", "index.faiss"]
    kept += ["together_rows.npy", "together_scores.npy"] if TOGETHER in bundle.facts else []
    before, after = file_hashes(bundle), file_hashes(made)
    assert [before[name] for name in kept] == [after[name] for name in kept]
    assert before["stats.parquet"] != after["stats.parquet"]
    assert made.facts.get(TOGETHER) == bundle.facts.get(TOGETHER)
    assert made.facts["model"] == {"name": bundle.facts["model"]["name"], "settings": bundle.facts["model"]["settings"]}


def retrieval_column(bundle: Bundle) -> int:
    return SOURCES.index("item_to_item" if TOGETHER in bundle.facts else "tower")


def test_a_name_or_a_setting_that_is_not_there_is_said_clearly() -> None:
    with pytest.raises(NotFound, match="there are popularity"):
        make("nonsense")
    with pytest.raises(InvalidArgument, match="no such setting") as wrong:
        make("popularity", {"factors": 3})
    assert wrong.value.field == "factors"
