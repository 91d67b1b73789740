"""Every retrieval model keeps one contract (training/models/contract.py): each is fitted once, on a world whose right
answer is visible, exported to a real bundle once, and asked by the serving code.

Who joins the catalogue joins here by one line of `SMALL`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.training.worlds import START_S, dataset_of
from training.dataset import Dataset
from training.interactions import interactions_of
from training.models.catalogue import CATALOGUE, kind_of, make
from training.models.contract import Interactions, Model, Scores, Table, Towers
from winnow.errors import InvalidArgument, NotFound
from winnow.features import Ints

SMALL: Mapping[str, Mapping[str, Any]] = {}
"""Settings by model that learn the world below in a second or two."""

CIRCLES, LENGTH, PEOPLE, STEPS = 5, 10, 90, 6
N = CIRCLES * LENGTH
ORDERED = {"markov"}
"""Models that know what comes next; the others know what goes together."""


def circle_world(home: Path, seed: int = 0) -> Dataset:
    """Items lie on circles. A person starts somewhere on one, the first circles more often, and goes round it, an act
    after the other: what comes next is the next item of the circle, and no other circle has anything to do with it."""
    rng = np.random.default_rng(seed)
    circle = rng.choice(CIRCLES, PEOPLE, p=np.arange(CIRCLES, 0, -1) / (CIRCLES * (CIRCLES + 1) / 2))
    walks = circle[:, None] * LENGTH + (rng.integers(LENGTH, size=(PEOPLE, 1)) + np.arange(STEPS)) % LENGTH
    person, step = np.divmod(np.arange(walks.size), STEPS)
    events = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(walks.size)],
            "type": "click",
            "user_id": [f"u{n}" for n in person],
            "item_id": [f"i{n}" for n in walks.ravel()],
            "occurred_at": START_S + 60.0 * (step * PEOPLE + person),
        }
    )
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(N)],
            "title": [f"Stop {n % LENGTH}" for n in range(N)],
            "categories": [[f"circle {n // LENGTH}"] for n in range(N)],
        }
    )
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(PEOPLE)], "traits.gender": "f"})
    return dataset_of(home, events, items, users)


def walk(start: int, steps: int) -> Ints:
    """Rows of a walk from an item, in the rows of a catalogue whose items are in the order of their numbers."""
    return start - start % LENGTH + (start % LENGTH + np.arange(steps)) % LENGTH


WALKS = [walk(start, 4) for start in range(N)]
EXPECTED = np.array([walk(start, 5)[-1] for start in range(N)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return circle_world(tmp_path_factory.mktemp("circles"))


@pytest.fixture(scope="module")
def data(dataset: Dataset) -> Interactions:
    assert [item.item_id for item in dataset.items] == [f"i{n}" for n in range(N)]
    return interactions_of(dataset, np.ones(len(dataset.acts), np.bool_))


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


def test_a_name_or_a_setting_that_is_not_there_is_said_clearly() -> None:
    with pytest.raises(NotFound, match="there are popularity"):
        make("nonsense")
    with pytest.raises(InvalidArgument, match="no such setting") as wrong:
        make("popularity", {"factors": 3})
    assert wrong.value.field == "factors"
