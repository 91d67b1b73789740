"""What every VectorIndex must keep: held against a search by brute force over the same vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval.indexes import VectorIndex, milvus
from services.retrieval.indexes.flat import FaissIndex
from services.retrieval.indexes.graph import HnswIndex
from services.retrieval.indexes.stored import read_index, restored
from tests.bundles import CATEGORIES, make_items
from tests.indexes import CLOSE, EVERY, EXACT, Make, maker, nothing, unit
from training.vector_index import KINDS, built, filled, saved
from winnow.catalogue import Catalogue
from winnow.errors import BundleRefused, FailedPrecondition, Unavailable
from winnow.filters import All, Any, Filter, Not, Op, Term, holds
from winnow.types import Floats

N = 400
RECALL = {"fp16": 0.95, "hnsw": 0.9, "hnsw_sq8": 0.8, "sq8": 0.8, "milvus": 0.9}
RECALL |= dict.fromkeys(("ivf", "ivf_hnsw", "ivf_sq8", "ivf_pq"), 0.5)  # half of the cells are looked into
"""What share of the nearest a kind finds at least, of vectors without clusters."""
VECTORS, ROWS = unit(N, 1), np.random.default_rng(2).permutation(N)  # slot n holds row ROWS[n]


@pytest.fixture(scope="module")
def make() -> Iterator[Make]:
    with maker() as make:
        yield make


@pytest.fixture(params=EVERY)
def index(request: pytest.FixtureRequest, make: Make) -> VectorIndex:
    return bound(make(request.param, VECTORS))


@pytest.fixture(scope="module", params=EVERY)
def lasting(request: pytest.FixtureRequest, make: Make) -> VectorIndex:
    """One that no test changes; a search among few is left to the index itself."""
    return bound(make(request.param, VECTORS))


@pytest.fixture(params=[False, True], ids=["searched", "compared"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to its own search, and made to compare the matching ones one by one."""
    for index in (request.getfixturevalue(name) for name in ("lasting", "index") if name in request.fixturenames):
        if isinstance(index, FaissIndex):
            monkeypatch.setattr(index, "_few", 1 if request.param else N + 1)


def bound(index: VectorIndex) -> VectorIndex:
    index.bind(np.arange(N), ROWS)
    return index


def oracle(vector: Floats, k: int, matching: set[int], table: Floats) -> list[int]:
    rows = np.asarray(sorted(matching), np.int64)
    return rows[np.argsort(-(table[rows] @ vector), kind="stable")[:k]].tolist()


TABLE = VECTORS[np.argsort(ROWS)]  # by row
rows = st.lists(st.integers(0, N - 1), max_size=60)


def check(index: VectorIndex, vector: Floats, scores: Floats, found: Floats, allowed: set[int]) -> None:
    """One row of an answer: full, matching, best first, scores true, and as near as the kind promises."""
    wanted = oracle(vector, len(found), allowed, TABLE)
    got = found[: len(wanted)].tolist()
    assert len(set(got)) == len(wanted)
    assert set(got) <= allowed
    assert (found[len(wanted) :] == -1).all()
    assert np.isneginf(scores[len(wanted) :]).all()
    assert (np.diff(scores[: len(wanted)]) <= 1e-6).all()
    np.testing.assert_allclose(scores[: len(got)], TABLE[got] @ vector, atol=CLOSE.get(index.kind, 1e-5))
    if index.kind in EXACT:
        assert got == wanted
    else:
        assert len(set(got) & set(wanted)) >= RECALL.get(index.kind, 1.0) * len(wanted) - 2


@pytest.mark.usefixtures("few")
@settings(max_examples=10, deadline=None)
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
        check(lasting, vector, scores[n], found[n], open_rows - set(out[n].tolist()))


ITEMS = make_items(N)
terms = st.one_of(
    st.builds(lambda c: Term("categories", Op.IN, tuple(c)), st.lists(st.sampled_from(CATEGORIES), min_size=1)),
    st.builds(lambda n: Term("brand", Op.IN, (f"brand{n}",)), st.integers(0, 21)),
    st.builds(lambda op, x: Term("price", op, number=x), st.sampled_from([Op.LT, Op.GE]), st.floats(0, 60)),
    st.builds(lambda n: Term("item_id", Op.IN, (f"i{n}",)), st.integers(0, N)),  # one item in 400, or none
    st.builds(lambda c: Term("attributes.colour", Op.IN, (c,)), st.sampled_from(["red", "green", "mauve"])),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    terms,
    lambda part: st.one_of(
        st.builds(lambda parts: All(tuple(parts)), st.lists(part, max_size=3)),
        st.builds(lambda parts: Any(tuple(parts)), st.lists(part, max_size=3)),
        st.builds(Not, part),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    made = Catalogue()
    made.upsert(ITEMS)
    return made


@settings(max_examples=10, deadline=None)
@given(tree=trees, k=st.integers(1, 60), seed=st.integers(0, 20))
def test_a_filter_finds_what_comparing_the_items_that_it_holds_for_finds(
    lasting: VectorIndex, catalogue: Catalogue, tree: Filter, k: int, seed: int
) -> None:
    vectors = unit(1, 200 + seed)
    scores, found = lasting.search(vectors, k, catalogue.mask(tree), nothing(1))
    check(lasting, vectors[0], scores[0], found[0], {n for n, item in enumerate(ITEMS) if holds(tree, item)})


def test_an_added_vector_is_found_by_the_next_search(index: VectorIndex) -> None:
    new = unit(5, 9)
    assert (index.search(new, 3, None, nothing(5))[1] < N).all()
    index.put(np.arange(N, N + 5), new)
    for n, vector in enumerate(new):
        scores, found = index.search(vector[None], 3, None, nothing(1))
        assert found[0, 0] == N + n
        assert scores[0, 0] == pytest.approx(1.0, abs=CLOSE.get(index.kind, 1e-3))


def test_a_row_that_gets_another_vector_is_found_by_that_one_only(index: VectorIndex) -> None:
    row, old, new = int(ROWS[7]), VECTORS[7], unit(1, 9)[0]
    index.put(np.asarray([row]), new[None])
    assert index.search(new[None], 1, None, nothing(1))[1].tolist() == [[row]]
    scores, found = index.search(old[None], N + 10, None, nothing(1))
    assert sorted(found[0][found[0] >= 0].tolist()) == list(range(N))
    assert scores[0][found[0] == row] == pytest.approx([old @ new], abs=CLOSE.get(index.kind, 1e-3))


@pytest.mark.usefixtures("few")
def test_a_dropped_row_is_not_found_by_the_next_search_and_can_come_back(index: VectorIndex) -> None:
    gone = ROWS[:40].copy()
    index.drop(np.append(gone, N + 5))  # the last was never there
    _, found = index.search(VECTORS[:2], N, None, nothing(2))
    for one in found:
        assert sorted(one[one >= 0].tolist()) == sorted(ROWS[40:].tolist())
    index.put(gone[:1], VECTORS[:1])
    assert index.search(VECTORS[:1], 1, None, nothing(1))[1].tolist() == [[int(gone[0])]]


def test_a_row_can_go_back_to_its_first_vector(index: VectorIndex) -> None:
    row = int(ROWS[7])
    index.put(np.asarray([row]), unit(1, 9))
    index.bind(np.asarray([7]), np.asarray([row]))
    scores, found = index.search(VECTORS[7][None], N + 10, None, nothing(1))
    assert found[0, 0] == row
    assert scores[0, 0] == pytest.approx(1.0, abs=CLOSE.get(index.kind, 1e-3))
    assert (found[0] >= 0).sum() == N


def test_a_snapshot_answers_the_same(index: VectorIndex, tmp_path: Path) -> None:
    index.put(np.arange(N - 2, N + 3), unit(5, 9))
    index.drop(ROWS[:5])
    index.save(tmp_path / "snapshot")
    again = restored(tmp_path / "snapshot")
    vectors, mask = unit(4, 77), np.arange(N + 3) % 3 == 0
    for one in (None, mask):
        before, after = (each.search(vectors, 50, one, nothing(4)) for each in (index, again))
        assert before[1].tolist() == after[1].tolist()
        np.testing.assert_allclose(before[0], after[0], atol=1e-6)
    with pytest.raises(FailedPrecondition):
        index.save(tmp_path / "snapshot")
    assert [file.name for file in tmp_path.iterdir()] == ["snapshot"]


def test_rows_that_nobody_bound_are_not_found(make: Make) -> None:
    index = make("flat", VECTORS)
    index.bind(np.arange(10), np.arange(10))
    _, found = index.search(VECTORS[:1], 50, np.ones(N, np.bool_), nothing(1))
    assert sorted(found[0][found[0] >= 0].tolist()) == list(range(10))


def test_a_mask_shorter_than_the_index_leaves_later_rows_out(lasting: VectorIndex) -> None:
    _, found = lasting.search(VECTORS[:1], N, np.ones(100, np.bool_), nothing(1))
    assert sorted(found[0][found[0] >= 0].tolist()) == list(range(100))


def test_a_graph_that_misses_rows_is_completed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors in two far clusters, searched with little breadth: the graph alone comes back short."""
    monkeypatch.setattr("services.retrieval.indexes.graph.EXACT_ROWS", 0)
    graph = filled("hnsw", VECTORS)
    graph.hnsw.entry_point, graph.hnsw.max_level = 0, 0
    neighbours = faiss.rev_swig_ptr(graph.hnsw.neighbors.data(), graph.hnsw.neighbors.size())
    neighbours[:] = -1  # every vector an island
    index = HnswIndex(graph)
    index.bind(np.arange(N), np.arange(N))
    mask = np.arange(N) % 2 == 0
    _, found = index.search(VECTORS[:2], 30, mask, nothing(2))
    for vector, got in zip(VECTORS[:2], found, strict=True):
        assert got.tolist() == oracle(vector, 30, set(np.flatnonzero(mask).tolist()), VECTORS)


def under_load(search: Callable[[], VectorIndex], change: Callable[[int], None], changes: int) -> list[object]:
    """What two threads found wrong that search all the while that something is changed."""
    done, wrong, asked = threading.Event(), [], [0]

    def searching() -> None:
        while not done.is_set() or asked[0] < 4:
            try:
                scores, found = search().search(VECTORS[:4], 20, None, nothing(4))
            except Exception as broken:  # whatever it is, it fails the test
                wrong.append(broken)
                return
            asked[0] += 1
            if (found < 0).any() or not np.isfinite(scores).all() or (found[:, 0] != ROWS[:4]).any():
                wrong.append(found)

    threads = [threading.Thread(target=searching) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(changes):
        change(n)
    done.set()
    for thread in threads:
        thread.join(timeout=20)
    return wrong


def test_searches_while_vectors_come_and_go_find_only_what_is_there(index: VectorIndex) -> None:
    def change(n: int) -> None:
        index.put(np.asarray([N + n]), unit(1, 1000 + n))
        index.drop(np.asarray([N + n - 1]))

    assert not under_load(lambda: index, change, 20)


def test_an_index_is_exchanged_under_load_and_no_search_fails(make: Make, tmp_path: Path) -> None:
    serving = {"now": bound(make("flat", VECTORS))}

    def change(n: int) -> None:
        serving["now"].save(tmp_path / str(n))
        serving["now"] = (
            restored(tmp_path / str(n)) if n % 2 else bound(make(("ivf", "ivf_pq", "hnsw")[n % 3], VECTORS))
        )

    assert not under_load(lambda: serving["now"], change, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_of_a_part_of_the_vectors_finds_those_alone(kind: str, tmp_path: Path) -> None:
    saved(built(kind, VECTORS, VECTORS[:20], 20)[0], tmp_path / "index.faiss")
    kept = np.arange(N) % 3 == 0
    index = bound(read_index(tmp_path / "index.faiss", VECTORS, kept))
    scores, found = index.search(unit(2, 5), N, None, nothing(2))
    near = index.search(VECTORS[:1], 1, None, nothing(1))[1]
    for n, vector in enumerate(unit(2, 5)):
        assert sorted(found[n][found[n] >= 0].tolist()) == sorted(ROWS[kept].tolist())
        true = TABLE[found[n, : kept.sum()]] @ vector
        np.testing.assert_allclose(scores[n, : kept.sum()], true, atol=CLOSE.get(kind, 1e-5))
    assert near.tolist() == [[int(ROWS[0])]]
    index.put(np.asarray([N]), unit(1, 9))
    assert index.search(unit(1, 9), 1, None, nothing(1))[1].tolist() == [[N]]


def test_a_milvus_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "TIMEOUT_S", 0.5)
    with pytest.raises(Unavailable, match="Milvus"):
        milvus.in_milvus("http://127.0.0.1:9")(Path("index.faiss"), VECTORS, None)


def test_half_a_snapshot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused):
        restored(tmp_path)
