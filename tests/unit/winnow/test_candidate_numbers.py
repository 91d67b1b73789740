"""What a ranker is told of a candidate: retrieval's word, and what this person did with it before."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bundles import SOURCES, make_user
from winnow.candidate_features import ACTED, acted_numbers, candidate_names, candidate_numbers, recency
from winnow.features import UserView
from winnow.types import Candidates, Context, UserState, strings

FIRST = datetime(2025, 6, 1, tzinfo=UTC)  # of make_user's acts, one a day


def view(state: UserState, days: float) -> UserView:
    return UserView(state, Context(at=FIRST + timedelta(days=days)), {}.get)


def some(item_ids: list[str]) -> Candidates:
    n = len(item_ids)
    return Candidates(strings(item_ids), np.ones(n, np.uint32), np.ones((n, len(SOURCES)), np.float32), SOURCES)


def test_what_somebody_did_with_a_candidate_by_hand() -> None:
    """Acts on a, b, a, c; asked a day and a half after the last."""
    person = make_user("u", ["a", "b", "a", "c"], seen=strings(["b", "a", "c"]))
    numbers = acted_numbers(strings(["c", "never", "a", "b"]), view(person, 4.5))
    assert numbers["acted:count"] == pytest.approx([math.log(2), 0.0, math.log(3), math.log(2)])
    assert numbers["acted:order"] == pytest.approx([recency(0), 0.0, recency(1), recency(2)])
    assert numbers["acted:days"] == pytest.approx([recency(1.5), 0.0, recency(2.5), recency(3.5)])


def test_an_act_that_the_clock_puts_into_the_future_is_one_of_now() -> None:
    assert acted_numbers(strings(["a"]), view(make_user("u", ["a"]), -3.0))["acted:days"] == [1.0]


def test_what_is_beyond_the_history_keeps_its_order() -> None:
    """A hundred acts on different things: the history holds the last fifty of them, `seen` all."""
    items = [f"i{n}" for n in range(100)]
    numbers = acted_numbers(strings(items), view(make_user("u", items), 100.0))
    assert (numbers["acted:count"] > 0).tolist() == [False] * 50 + [True] * 50
    assert (np.diff(numbers["acted:order"]) > 0).all()
    assert numbers["acted:order"][0] > 0


def test_a_bundle_that_does_not_ask_is_told_what_it_always_was() -> None:
    before, after = candidate_names(SOURCES), candidate_names(SOURCES, ACTED)
    person = view(make_user("u", ["a", "b"]), 3.0)
    told = candidate_numbers(some(["a", "z"]), after, person)
    assert np.array_equal(candidate_numbers(some(["a", "z"]), before, person), told[:, : len(before)])
    assert told[0, len(before) :].all()
    assert not told[1, len(before) :].any()


@given(acts=st.lists(st.sampled_from("abcdef"), max_size=30), asked=st.permutations("abcdefgh"))
def test_numbers_belong_to_the_item_wherever_it_stands(acts: list[str], asked: list[str]) -> None:
    person, names = view(make_user("u", acts), 40.0), candidate_names((), ACTED)
    told = candidate_numbers(some(asked), names, person)[np.argsort(asked)]
    assert np.array_equal(told[:, 1:], candidate_numbers(some(sorted(asked)), names, person)[:, 1:])
    assert (told[:, 1:].any(axis=1) == np.isin(list("abcdefgh"), acts)).all()
