"""Exploration: how likely each item was to be shown is said exactly, and no promise about a page suffers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.explore import Explore, kinds_of
from services.gateway.slate import PLACES
from winnow.catalogue import Rows
from winnow.types import Person

Kinds = npt.NDArray[np.int64]
ONE_KIND = np.zeros((0, 60), np.int64)


@given(
    seed=st.integers(0, 2**64 - 1),
    n=st.integers(1, 120),
    share=st.floats(0.01, 0.5),
    pool=st.integers(2, 30),
    kinds=st.integers(1, 4),
)
@settings(deadline=None)
def test_every_place_keeps_its_kind_and_says_a_possible_propensity(
    seed: int, n: int, share: float, pool: int, kinds: int
) -> None:
    rng = np.random.default_rng(seed % 2**32)
    order, alike = rng.permutation(n), rng.integers(0, kinds, (2, n))
    fixed = set(order[: n // 10].tolist())
    made, propensities = Explore(share, pool, 60.0).draw(order, alike, fixed, seed)
    assert sorted(made.tolist()) == list(range(n))
    assert (alike[:, made] == alike[:, order]).all()
    still = np.isin(order, list(fixed))
    assert (made[still] == order[still]).all()
    assert (propensities[still] == 1).all()
    assert (propensities[PLACES:] == 1).all()
    assert (made[PLACES:] == order[PLACES:]).all() or n > PLACES
    assert ((propensities >= share / pool - 1e-6) & (propensities <= 1 + 1e-6)).all()
    likely = expected(order, made, alike, fixed, share, pool)
    np.testing.assert_allclose(propensities, likely, rtol=1e-5)


def expected(order: Rows, made: Rows, alike: Kinds, fixed: set[int], share: float, pool: int) -> list[float]:
    """Place by place, by what was left of each kind."""
    left: dict[tuple[int, ...], list[int]] = {}
    for row in order.tolist():
        if row not in fixed:
            left.setdefault(tuple(alike[:, row]), []).append(row)
    found = []
    for place, row in enumerate(made.tolist()):
        if row in fixed or place >= PLACES:
            found.append(1.0)
            continue
        waiting = left[tuple(alike[:, row])]
        m = min(pool, len(waiting))
        best = waiting[0] == row
        assert row in waiting[:m]
        waiting.remove(row)
        found.append(share / m + (1 - share if best else 0))
    return found


def test_an_item_stands_at_a_place_as_often_as_is_said() -> None:
    """Over many people: what was seen at the first place, against its propensity, and inverse propensities sum to one."""
    explore, order, people = Explore(0.3, 5, 60.0), np.arange(60), 20_000
    seen, weights = Counter[int](), Counter[int]()
    for seed in range(people):
        made, propensities = explore.draw(order, ONE_KIND, (), seed)
        seen[int(made[0])] += 1
        weights[int(made[0])] += 1 / float(propensities[0])
    for row, likely in enumerate([0.76, 0.06, 0.06, 0.06, 0.06]):
        error = 4 * np.sqrt(likely * (1 - likely) * people)
        assert abs(seen[row] - likely * people) < error
        assert weights[row] / people == pytest.approx(1.0, abs=4 * np.sqrt((1 / likely - 1) / people))
    assert set(seen) == set(range(5))


def test_the_second_place_depends_on_the_first_as_is_said() -> None:
    explore, pairs = Explore(0.5, 2, 60.0), Counter[tuple[int, int]]()
    said: dict[tuple[int, int], float] = {}
    for seed in range(20_000):
        made, propensities = explore.draw(np.arange(4), np.zeros((0, 4), np.int64), (), seed)
        pair = int(made[0]), int(made[1])
        pairs[pair] += 1
        said[pair] = float(propensities[0] * propensities[1])
    assert sum(said.values()) == pytest.approx(1.0, abs=1e-6), "all that can happen"
    for pair, likely in said.items():
        assert pairs[pair] / 20_000 == pytest.approx(likely, abs=4 * np.sqrt(likely * (1 - likely) / 20_000))


def test_off_it_says_nothing_and_on_it_says_its_strength() -> None:
    assert Explore(0.0, 20, 60.0).strengths == {}
    assert Explore(0.1, 20, 60.0).strengths == {"explore": 0.1, "explore_pool": 20.0}


def test_whoever_asks_again_is_drawn_the_same_and_others_otherwise() -> None:
    explore = Explore(0.1, 20, 600.0)
    mine = explore.seed(Person("u", "s"), "home", 1_200.0)
    assert mine == explore.seed(Person("u", "s"), "home", 1_799.9)
    others = [(Person("u", "s"), "home", 1_800.0), (Person("u", "s"), "cart", 1_200.0), (Person("us"), "home", 1_200.0)]
    assert len({mine, *(explore.seed(*other) for other in others)}) == 4


def test_columns_that_are_equal_are_of_one_kind() -> None:
    columns = np.array([[1, 0, 1, 1], [2, 2, 2, 3]])
    kind = kinds_of(columns).tolist()
    assert kind[0] == kind[2]
    assert len(set(kind)) == 3
    assert kinds_of(ONE_KIND).tolist() == [0] * 60
