from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.retrieval.ask import Found
from services.retrieval.merge import Blend, merge


def found(*rows: int) -> Found:
    return Found(np.asarray(rows, np.int64), lambda wanted: np.isin(wanted, rows).astype(np.float32))


def test_sources_share_the_places_in_proportion() -> None:
    big, small = found(*range(100)), found(*range(1000, 1100))
    merged = merge([big, small], [Blend(0.8, 1.0), Blend(0.2, 1.0)], 50)
    assert len(merged.rows) == 50
    assert (merged.rows >= 1000).sum() in (10, 11)
    assert set(merged.rows[merged.rows < 1000]) == set(range(50 - int((merged.rows >= 1000).sum())))


def test_a_source_that_runs_out_leaves_its_places_to_the_others() -> None:
    merged = merge([found(*range(100)), found(1000)], [Blend(0.5, 1.0), Blend(0.5, 1.0)], 50)
    assert len(merged.rows) == 50
    assert 1000 in merged.rows


def test_a_source_without_a_share_only_fills_up() -> None:
    full = merge([found(1, 2, 3), found(7, 8)], [Blend(1.0, 1.0), Blend(0.0, 1.0)], 3)
    short = merge([found(1, 2, 3), found(7, 8)], [Blend(1.0, 1.0), Blend(0.0, 1.0)], 5)
    assert sorted(full.rows) == [1, 2, 3]
    assert sorted(short.rows) == [1, 2, 3, 7, 8]


def test_a_source_is_named_only_for_what_it_brought_in_its_turn() -> None:
    late = found(*range(1000, 1010), *range(10))  # 0 to 9 come when the places are taken
    merged = merge([found(*range(100)), late], [Blend(0.8, 1.0), Blend(0.2, 1.0)], 50)
    assert {0, 9, 1009} <= set(merged.rows)
    assert set(merged.sources[merged.rows < 1000]) == {1}
    assert set(merged.sources[merged.rows >= 1000]) == {2}


def test_the_order_is_by_the_sum_of_what_all_sources_scores_are_worth() -> None:
    cosine = Found(np.asarray([1, 2]), lambda wanted: np.asarray([0, 0.5, 0.4, 0.1], np.float32)[wanted])
    counted = Found(np.asarray([3, 2]), lambda wanted: np.asarray([0, 0.0, 0.1, 1.0], np.float32)[wanted])
    blends = [Blend(0.5, 1.0), Blend(0.5, 0.1, floor=0.01)]
    worth = {1: 0.5, 2: 0.4 + 0.1 * np.log(11), 3: 0.1 + 0.1 * np.log(101)}
    merged = merge([cosine, counted], blends, 3)
    assert merged.rows.tolist() == sorted(worth, key=lambda row: -worth[row])
    assert dict(zip(merged.rows.tolist(), merged.sources.tolist(), strict=True)) == {1: 1, 2: 3, 3: 2}
    np.testing.assert_allclose(merged.scores[merged.rows == 2], [[0.4, 0.1]])


def test_what_is_worth_the_same_stays_in_the_order_of_the_turns() -> None:
    merged = merge([found(9, 2, 7), found(5)], [Blend(0.9, 0.0), Blend(0.1, 0.0)], 4)
    assert merged.rows.tolist() == [9, 2, 7, 5]


def test_scores_are_known_for_every_candidate_whoever_proposed_it() -> None:
    deep = Found(np.asarray([1]), lambda wanted: wanted.astype(np.float32))
    merged = merge([found(1, 2, 3), deep], [Blend(0.5, 1.0), Blend(0.5, 0.0)], 3)
    np.testing.assert_array_equal(merged.scores, [[1, 1], [1, 2], [1, 3]])


lists = st.lists(st.lists(st.integers(0, 80), unique=True, max_size=60), min_size=1, max_size=5)


@given(lists=lists, n=st.integers(1, 60), data=st.data())
def test_a_list_is_as_long_as_the_sources_allow_and_nothing_is_in_it_twice(
    lists: list[list[int]], n: int, data: st.DataObject
) -> None:
    lists = [rows[:n] for rows in lists]
    shares = data.draw(st.lists(st.sampled_from([0.0, 0.05, 0.5, 1.0]), min_size=len(lists), max_size=len(lists)))
    merged = merge([found(*rows) for rows in lists], [Blend(share, 1.0) for share in shares], n)
    distinct = {row for rows in lists for row in rows}
    assert len(merged.rows) == len(set(merged.rows.tolist())) == min(n, len(distinct))
    for row, bits in zip(merged.rows.tolist(), merged.sources.tolist(), strict=True):
        assert bits
        assert all(row in rows for place, rows in enumerate(lists) if bits >> place & 1)
