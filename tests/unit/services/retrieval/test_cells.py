"""How many cells a search under a filter looks into: enough, wherever what matches lies, and not many more."""

from __future__ import annotations

import numpy as np
import pytest

from services.retrieval.indexes import cells as searching
from services.retrieval.indexes.cells import CellsIndex
from services.retrieval.indexes.slots import Slots
from services.retrieval.indexes.stored import read_index
from tests.indexes import nothing, unit
from training.vector_index import built, saved
from winnow.catalogue import Mask, Rows
from winnow.types import Floats

N, K = 20_000, 20


@pytest.fixture(scope="module")
def region() -> Rows:
    """(N,) of ten regions, the one that each vector lies in."""
    return np.random.default_rng(0).integers(0, 10, N)


@pytest.fixture(scope="module")
def vectors(region: Rows) -> Floats:
    """Clusters in regions, and vectors in clusters."""
    rng = np.random.default_rng(1)
    clusters = 0.8 * unit(10, 2)[:, None] + 0.6 * unit(200, 3).reshape(10, 20, 32)
    near = clusters[region, rng.integers(0, 20, N)] + 0.5 * unit(N, 4)
    rows: Floats = near / np.linalg.norm(near, axis=1, keepdims=True)
    return rows


@pytest.fixture(scope="module", params=["ivf", "ivf_sq8", "ivf_pq"])
def index(request: pytest.FixtureRequest, vectors: Floats, tmp_path_factory: pytest.TempPathFactory) -> CellsIndex:
    file = tmp_path_factory.mktemp("cells") / "index.faiss"
    saved(built(request.param, vectors, vectors[:100], K)[0], file)
    made = read_index(file, vectors)
    assert isinstance(made, CellsIndex)
    made.bind(np.arange(N), np.arange(N))
    return made


@pytest.fixture
def looked_into(index: CellsIndex, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many cells, search by search."""
    seen: list[int] = []
    inside = index._in_cells

    def search(vectors: Floats, k: int, selection: object, probes: int) -> tuple[Floats, Rows]:
        seen.append(probes)
        return inside(vectors, k, selection, probes)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "_in_cells", search)
    return seen


def recall(index: CellsIndex, vectors: Floats, people: Floats, mask: Mask) -> float:
    found = index.search(people, K, mask, nothing(len(people)))[1]
    rows = np.flatnonzero(mask)
    wanted = rows[np.argsort(-(people @ vectors[rows].T), axis=1)[:, :K]]
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, wanted, strict=True)])) / K


@pytest.mark.parametrize("step", [1, 4])
def test_what_matches_is_found_where_it_lies_elsewhere(
    index: CellsIndex, vectors: Floats, region: Rows, looked_into: list[int], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "COUNTED", N // step)
    people = vectors[region < 5][:50]
    assert recall(index, vectors, people, region == 9) > 0.9
    assert max(looked_into) > 4 * index._probes


def test_few_more_cells_are_looked_into_where_what_matches_lies_anywhere(
    index: CellsIndex, vectors: Floats, looked_into: list[int]
) -> None:
    mask = np.random.default_rng(5).random(N) < 0.1
    assert recall(index, vectors, vectors[:50], mask) > 0.95
    assert max(looked_into) < 6 * index._probes


def test_a_batch_under_a_filter_answers_like_one_by_one(index: CellsIndex, vectors: Floats, region: Rows) -> None:
    mask = region % 3 == 0
    together = index.search(vectors[:8], K, mask, nothing(8))[1]
    alone = [index.search(one[None], K, mask, nothing(1))[1][0] for one in vectors[:8]]
    np.testing.assert_array_equal(together, alone)


def test_some_of_the_slots_are_selected_ones_and_their_part() -> None:
    slots = Slots(1_003)
    slots.bind(np.arange(1_003), np.arange(1_003))
    mask = np.random.default_rng(0).random(1_003) < 0.5
    selection = slots.selection(mask, np.empty(0, np.int64))
    np.testing.assert_array_equal(selection.some(1), np.flatnonzero(mask))
    some = selection.some(4)
    np.testing.assert_array_equal(some, [n for n in np.flatnonzero(mask) if (n >> 3) % 4 == 0])
