"""What every VectorIndex must keep: held against a search by numpy over the same vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval import index as indexes
from services.retrieval.index import ExactIndex, HnswIndex, VectorIndex, read_index
from tests.bundles import make_index
from tests.graphs import DIM
from winnow.catalogue import Rows
from winnow.types import Floats

N = 400


def unit(n: int, seed: int) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def read(kind: str, vectors: Floats, folder: Path) -> VectorIndex:
    faiss.write_index(make_index(vectors, kind), str(folder / "index.faiss"))
    return read_index(folder / "index.faiss", vectors)


KINDS: dict[str, Callable[[Floats, Path], VectorIndex]] = {
    "flat": lambda vectors, folder: read("flat", vectors, folder),
    "ivf": lambda vectors, folder: read("ivf", vectors, folder),
    "fp16": lambda vectors, folder: read("fp16", vectors, folder),
    "hnsw": lambda vectors, folder: read("hnsw", vectors, folder),
    "exact": lambda vectors, folder: ExactIndex(vectors),
}
CLOSE = {"flat": 1e-5, "ivf": 1e-5, "fp16": 1e-3, "hnsw": 1e-5, "exact": 1e-5}
RECALL = {"hnsw": 0.9, "fp16": 0.95, "ivf": 0.5}  # of vectors without clusters; half of the cells are looked into
VECTORS, ROWS = unit(N, 1), np.random.default_rng(2).permutation(N)  # slot n holds row ROWS[n]


@pytest.fixture(params=list(KINDS))
def index(request: pytest.FixtureRequest, tmp_path: Path) -> VectorIndex:
    made = KINDS[request.param](VECTORS, tmp_path)
    made.bind(np.arange(N), ROWS)
    return made


@pytest.fixture(scope="module", params=list(KINDS))
def lasting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    """One that no test changes."""
    made = KINDS[request.param](VECTORS, tmp_path_factory.mktemp("index"))
    made.bind(np.arange(N), ROWS)
    return made


def oracle(vector: Floats, k: int, matching: set[int], table: dict[int, Floats]) -> list[int]:
    return sorted(matching, key=lambda row: -float(table[row] @ vector))[:k]


TABLE = {int(row): VECTORS[slot] for slot, row in enumerate(ROWS)}
rows = st.lists(st.integers(0, N - 1), max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.95, 1.0, None]),
    without=st.tuples(rows, rows, st.just([])),
    k=st.integers(1, N + 50),
    seed=st.integers(0, 5),
)
def test_every_place_is_filled_with_matching_rows_and_nearly_the_nearest(
    lasting: VectorIndex, share: float | None, without: tuple[list[int], ...], k: int, seed: int
) -> None:
    mask = None if share is None else np.random.default_rng(seed).random(N) < share
    out = [np.unique(np.asarray(one, np.int64)) for one in without]
    vectors = unit(3, 100 + seed)
    scores, found = lasting.search(vectors, k, mask, out)
    assert scores.shape == found.shape == (3, k)
    for n, vector in enumerate(vectors):
        open_rows = set(range(N)) if mask is None else set(np.flatnonzero(mask).tolist())
        wanted = oracle(vector, k, open_rows - set(out[n].tolist()), TABLE)
        got = found[n, : len(wanted)].tolist()
        assert len(set(got)) == len(wanted)
        assert set(got) <= open_rows - set(out[n].tolist())
        assert (found[n, len(wanted) :] == -1).all()
        assert np.isneginf(scores[n, len(wanted) :]).all()
        assert (np.diff(scores[n, : len(wanted)]) <= 1e-6).all()
        np.testing.assert_allclose(
            scores[n, : len(got)], [TABLE[row] @ vector for row in got], atol=CLOSE[lasting.kind]
        )
        if lasting.kind in RECALL:
            assert len(set(got) & set(wanted)) >= RECALL[lasting.kind] * len(wanted) - 2
        else:
            assert got == wanted


def nothing(b: int) -> list[Rows]:
    return [np.empty(0, np.int64)] * b


def test_an_added_vector_is_found_by_the_next_search(index: VectorIndex) -> None:
    new = unit(5, 9)
    assert (index.search(new, 3, None, nothing(5))[1] < N).all()
    index.put(np.arange(N, N + 5), new)
    for n, vector in enumerate(new):
        scores, found = index.search(vector[None], 3, None, nothing(1))
        assert found[0, 0] == N + n
        assert scores[0, 0] == pytest.approx(1.0, abs=1e-3)


def test_a_row_that_gets_another_vector_is_found_by_that_one_only(index: VectorIndex) -> None:
    row, old, new = int(ROWS[7]), VECTORS[7], unit(1, 9)[0]
    index.put(np.asarray([row]), new[None])
    assert index.search(new[None], 1, None, nothing(1))[1].tolist() == [[row]]
    scores, found = index.search(old[None], N + 10, None, nothing(1))
    assert sorted(found[0][found[0] >= 0].tolist()) == list(range(N))
    assert scores[0][found[0] == row] == pytest.approx([old @ new], abs=1e-3)


def test_a_row_can_go_back_to_its_first_vector(index: VectorIndex) -> None:
    row = int(ROWS[7])
    index.put(np.asarray([row]), unit(1, 9))
    index.bind(np.asarray([7]), np.asarray([row]))
    scores, found = index.search(VECTORS[7][None], N + 10, None, nothing(1))
    assert found[0, 0] == row
    assert scores[0, 0] == pytest.approx(1.0, abs=1e-3)
    assert (found[0] >= 0).sum() == N


def test_rows_that_nobody_bound_are_not_found(tmp_path: Path) -> None:
    index = KINDS["flat"](VECTORS, tmp_path)
    index.bind(np.arange(10), np.arange(10))
    _, found = index.search(VECTORS[:1], 50, np.ones(N, np.bool_), nothing(1))
    assert sorted(found[0][found[0] >= 0].tolist()) == list(range(10))


def test_a_mask_shorter_than_the_index_leaves_later_rows_out(index: VectorIndex) -> None:
    _, found = index.search(VECTORS[:1], N, np.ones(100, np.bool_), nothing(1))
    assert sorted(found[0][found[0] >= 0].tolist()) == list(range(100))


def test_a_graph_that_misses_rows_is_completed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors in two far clusters, searched with little breadth: the graph alone comes back short."""
    monkeypatch.setattr(indexes, "EXACT_ROWS", 0)
    graph = make_index(VECTORS, "hnsw")
    graph.hnsw.entry_point, graph.hnsw.max_level = 0, 0
    neighbours = faiss.rev_swig_ptr(graph.hnsw.neighbors.data(), graph.hnsw.neighbors.size())
    neighbours[:] = -1  # every vector an island
    index = HnswIndex(graph)
    index.bind(np.arange(N), np.arange(N))
    mask = np.arange(N) % 2 == 0
    _, found = index.search(VECTORS[:2], 30, mask, nothing(2))
    for vector, got in zip(VECTORS[:2], found, strict=True):
        by_row = dict(enumerate(VECTORS))
        assert got.tolist() == oracle(vector, 30, set(np.flatnonzero(mask).tolist()), by_row)


def test_searches_while_vectors_are_added_find_only_what_is_there(index: VectorIndex) -> None:
    done, wrong = threading.Event(), []

    def searching() -> None:
        while not done.is_set():
            scores, found = index.search(VECTORS[:4], 20, None, nothing(4))
            if (found < 0).any() or not np.isfinite(scores).all() or (found[:, 0] != ROWS[:4]).any():
                wrong.append(found)

    threads = [threading.Thread(target=searching) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(100):
        index.put(np.asarray([N + n]), unit(1, 1000 + n))
    done.set()
    for thread in threads:
        thread.join(timeout=10)
    assert not wrong
