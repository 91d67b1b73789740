"""What the shared suite (tests/contract/test_models.py) cannot know: the equations of single models, and what a bundle
makes of towers that know new items and of tables whose items moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from services.retrieval.bundle import load as load_for_serving
from services.retrieval.model import Model as Beside
from tests.training.circles import WALKS, N, circle_world, everything
from training.baselines import BASELINES
from training.dataset import Dataset
from training.interactions import interactions_of, plain
from training.model_bundle import write_model_bundle
from training.models.als import FoldIn, steps_for
from training.models.bpr import nearest_map
from training.models.catalogue import make
from training.models.contract import Interactions, Towers
from training.models.popularity import Popularity
from training.models.queries import query
from training.models.served import Always
from training.refresh import own_table
from winnow.catalogue import Catalogue
from winnow.errors import InvalidArgument
from winnow.features import Ints
from winnow.inference import InProcess
from winnow.types import Item


@pytest.mark.parametrize("confidence", [1.0, 4.0, 40.0])
def test_als_folds_a_history_in_by_the_normal_equations(confidence: float) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.3, (200, 16)).astype(np.float32)
    histories: list[Ints] = [rng.integers(0, 200, n) for n in (1, 7, 50)] + [np.full(20, 3), np.empty(0, np.int64)]
    fold_in = FoldIn(vectors, confidence, 2.0)
    found = fold_in(**query(histories, vectors)).numpy()
    wide = vectors.astype(np.float64)
    for history, x in zip(histories, found, strict=True):
        own = wide[history]
        left = wide.T @ wide + 2.0 * np.eye(16) + (confidence - 1) * own.T @ own
        expected = np.linalg.solve(left, confidence * own.sum(0))
        assert np.abs(x - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())


def test_als_gives_a_person_of_the_training_the_factors_that_the_library_does() -> None:
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    data = plain(*walks(), N)
    model = make("als", {"factors": 8, "iterations": 5, "confidence": 6.0, "regularization": 0.5}, seed=1).fit(data)
    served = model.serves()
    assert isinstance(served, Towers)
    library = AlternatingLeastSquares(factors=8, regularization=0.5, alpha=6.0, num_threads=1)
    library.item_factors = served.vectors
    first = data.of(0)
    row = csr_matrix((np.ones(len(first), np.float32), (np.zeros(len(first), np.int64), first)), shape=(1, N))
    expected = library.recalculate_user(0, row)
    assert np.allclose(served.user(**query([first], served.vectors))[0].numpy(), expected, atol=1e-4)


def test_a_worse_condition_takes_more_steps() -> None:
    assert [steps_for(condition) for condition in (1.0, 4.0, 10.0, 40.0)] == [0, 14, 23, 46]


def test_the_fold_in_of_bpr_is_the_map_that_made_the_factors() -> None:
    rng = np.random.default_rng(0)
    means, to_person = rng.normal(size=(300, 6)), rng.normal(size=(6, 6))
    assert np.allclose(nearest_map(means, means @ to_person, ridge=1e-9), to_person, atol=1e-4)
    assert np.isfinite(nearest_map(np.zeros((3, 6)), np.zeros((3, 6)), ridge=1.0)).all()


def test_a_benchmarks_model_of_everything_is_not_served() -> None:
    items, starts = walks()
    for name, settings in (("ease", {"neighbours": 0}), ("item_knn", {"acts": 0})):
        with pytest.raises(ValueError, match="not with all"):
            make(name, settings).fit(plain(items, starts, N)).serves()


def test_a_whole_history_counts_each_item_once_and_a_table_each_act() -> None:
    items, starts = walks()
    whole, table = BASELINES["itemknn"]().fit(items, starts, N), make("item_knn", {"decay": 1.0, "shrink": 0.0})
    table.fit(plain(items, starts, N))
    twice = [np.array([3, 4, 3, 4])]
    once = [np.array([3, 4])]
    assert np.allclose(whole.scores(twice), whole.scores(once))
    assert np.allclose(table.scores(twice), 2 * table.scores(once), atol=1e-6)
    assert np.allclose(table.scores(once), whole.scores(once), atol=1e-6)


def test_newer_acts_count_more_and_only_the_newest_count() -> None:
    items, starts = walks()
    model = make("item_knn", {"decay": 0.5, "acts": 2}).fit(plain(items, starts, N))
    three, two, older = model.scores([np.array([20, 3, 4]), np.array([3, 4]), np.array([3])])
    newest = model.scores([np.array([4])])[0]
    assert np.array_equal(three, two)
    assert np.allclose(two, newest + 0.5 * older, atol=1e-6)


def test_settings_may_be_words_and_wrong_ones_are_named() -> None:
    assert make("als", {"factors": "32", "confidence": "2.5"}).settings.factors == 32
    for wrong in ({"factors": "many"}, {"factors": 0}, {"factors": "1.5"}):
        with pytest.raises(InvalidArgument) as refused:
            make("als", wrong)
        assert refused.value.field == "factors"


def walks() -> tuple[Ints, Ints]:
    return np.concatenate(WALKS), np.arange(0, 4 * N + 1, 4)


# ---------------------------------------------------------------------------------------------- bundles


class Colour(nn.Module):
    """A vector of what is known of an item: its price column."""

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        return torch.stack([ids[:, 0].to(torch.float32), 5.0 + numbers[:, -1]], dim=1)


class Knowing(Popularity):
    """A model whose towers say something of items that came after its training."""

    def fit(self, data: Interactions, progress: object = None) -> Knowing:
        assert data.item_side is not None
        self.schema = data.item_side.schema
        return super().fit(data)

    def serves(self) -> Towers:
        vectors = np.stack([np.arange(N), np.ones(N)], axis=1).astype(np.float32)
        return Towers(vectors, Always(1.0, dim=2), item=Colour(), item_schema=self.schema)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return circle_world(tmp_path_factory.mktemp("circles"))


def test_a_new_item_gets_the_vector_that_the_model_makes_of_what_is_known(dataset: Dataset, tmp_path: Path) -> None:
    model = Knowing().fit(interactions_of(dataset, everything(dataset)))
    bundle = load_for_serving(write_model_bundle(dataset, everything(dataset), model, tmp_path), InProcess())
    assert np.array_equal(bundle.vectors[7], [7.0, 1.0])
    new, known = Item("new", categories=("circle 1",)), replace(dataset.items[7], title="another title")
    catalogue = Catalogue()
    catalogue.upsert([new, known])
    beside = Beside(bundle, catalogue)
    beside.absorb(beside.stale())
    category = bundle.item_schema.vocabularies["category"].row("circle 1")
    assert beside.vectors[0].tolist() == [category, 5.0]
    assert beside.vectors[1].tolist() == [7.0, 1.0], "a known item whose words changed is still known by its id"


def test_a_table_follows_its_items_to_new_rows(dataset: Dataset, tmp_path: Path) -> None:
    model = make("item_knn").fit(interactions_of(dataset, everything(dataset)))
    bundle = write_model_bundle(dataset, everything(dataset), model, tmp_path)
    moved = replace(dataset, items=(Item("newest"), *dataset.items[:0:-1]))  # i0 is gone
    found = own_table(bundle, moved)
    assert found is not None
    rows, scores = found
    before_rows, before = (np.load(bundle.file(f"together_{of}.npy")) for of in ("rows", "scores"))
    assert (rows[0] == -1).all()
    assert not scores[0].any()
    for row, item in enumerate(moved.items[1:], start=1):
        old = int(item.item_id[1:])
        expected = [(n, s) for n, s in zip(before_rows[old], before[old], strict=True) if n > 0]
        got = [(int(moved.items[n].item_id[1:]), s) for n, s in zip(rows[row], scores[row], strict=True) if n >= 0]
        assert got == expected
