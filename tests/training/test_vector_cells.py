"""Cells and how far an index looks: centres in two levels, and the least width that finds what is wanted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import vector_index
from training.vector_cells import centres, nearest, shared
from training.vector_index import RECALL, surely, widened
from winnow.types import Floats


def unit(vectors: Floats) -> Floats:
    rows: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows


@pytest.fixture(scope="module")
def vectors() -> Floats:
    rng = np.random.default_rng(0)
    middles = unit(rng.standard_normal((60, 32), np.float32))
    return unit(np.repeat(middles, 50, axis=0) + 0.05 * rng.standard_normal((3_000, 32), np.float32))


def test_vectors_lie_as_close_to_centres_of_two_levels_as_their_clusters_are_narrow(vectors: Floats) -> None:
    learnt = centres(vectors, 120)
    assert learnt.shape == (120, 32)
    np.testing.assert_allclose(np.linalg.norm(learnt, axis=1), 1, atol=1e-5)
    cosine = np.einsum("nd,nd->n", vectors, learnt[nearest(vectors, learnt)])
    assert cosine.mean() > 0.95
    np.testing.assert_array_equal(learnt, centres(vectors, 120))


@pytest.mark.parametrize("cells", [1, 2, 3_000])
def test_one_cell_and_a_cell_each_are_cells_too(vectors: Floats, cells: int) -> None:
    assert len(centres(vectors, cells)) == cells


@given(sizes=st.lists(st.integers(0, 1_000), min_size=1, max_size=30).filter(any), data=st.data())
def test_cells_are_shared_out_by_size_and_none_is_left_over(sizes: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(sizes)))
    shares = shared(np.asarray(sizes), total)
    assert shares.sum() == total
    assert (shares <= sizes).all()
    assert (np.abs(shares - total * np.asarray(sizes) / sum(sizes)) < 1).all()


@given(enough=st.integers(1, 400))
def test_a_search_is_made_no_wider_than_an_eighth_more_than_is_needed(enough: int) -> None:
    search = SimpleNamespace(width=0)
    found = widened(search, "width", 16, 256, lambda: min(search.width / enough, 1.0) * RECALL)
    if enough <= 256:
        assert found == pytest.approx(RECALL)
        assert enough <= search.width <= max(16, 1.125 * enough + 1)
    else:
        assert search.width == 256
        assert found == pytest.approx(RECALL * 256 / enough)


def test_a_step_that_brings_nothing_is_taken_back() -> None:
    search = SimpleNamespace(width=0)
    assert widened(search, "width", 16, 256, lambda: min(search.width / 100, 0.5)) == 0.5
    assert search.width == 64


def test_what_other_people_have_is_less_sure_the_fewer_were_asked_and_the_more_they_differ() -> None:
    alike, few = np.full(100, 0.99), np.asarray([0.98, 1.0])
    assert surely(alike) == pytest.approx(0.99)
    assert surely(few) < surely(np.tile(few, 50)) < 0.99


@pytest.mark.parametrize(
    ("needed", "else_needed", "cheapest"), [({2: 200, 3: 150, 4: 100, 6: 2}, 1, (6, 2)), ({2: 30}, 24, (2, 30))]
)
def test_product_codes_hand_on_as_few_and_scan_as_few_cells_as_cost_least(
    needed: dict[int, int], else_needed: int, cheapest: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of 1,000 items that find what is wanted, by how many times as many are handed on."""
    monkeypatch.setattr(vector_index, "LEAST_PROBES", 1)
    cells = SimpleNamespace(nprobe=0, nlist=1_000)
    index = SimpleNamespace(k_factor=0, ntotal=1_000_000)

    def reached() -> float:
        return RECALL if cells.nprobe >= needed.get(index.k_factor, else_needed) else 0.5 * cells.nprobe / 256

    vector_index.refined(index, cells, 100, reached)
    assert (index.k_factor, cells.nprobe) == cheapest


def test_product_codes_that_find_too_little_hand_on_many_from_as_many_cells_as_bring_something() -> None:
    cells = SimpleNamespace(nprobe=0, nlist=1_000)
    index = SimpleNamespace(k_factor=0, ntotal=1_000_000)
    vector_index.refined(index, cells, 100, lambda: min(index.k_factor / 32, cells.nprobe / 100))
    assert (index.k_factor, cells.nprobe) == (16, 64)
