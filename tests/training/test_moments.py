"""What a moment is where nothing was logged: an act, or, where people buy several things at once, a whole basket."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from tests.training.shops import BASKET, MONTHS, shop
from training.dataset import Dataset
from training.moments import KEPT, NEWCOMERS, Moments, moments
from training.past import Past
from training.split import Split, by_time

END = float("inf")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Past(shop(tmp_path_factory.mktemp("shop"), people=8, baskets=2)).whole


def parts(dataset: Dataset) -> Split:
    return by_time(dataset.acts.at, MONTHS[1], MONTHS[2], END)


def every(found: Moments) -> list[int]:
    return [moment.before for moment in (*found.rank, *found.calibrate) if moment.kept is None]


def test_a_basket_is_one_moment_of_which_nothing_is_known_yet(dataset: Dataset) -> None:
    found = moments(dataset, parts(dataset))
    acts = dataset.acts
    assert len([moment for moment in found.rank if moment.kept is None]) == 2 * 8 * 2
    for moment in (*found.rank, *found.calibrate):
        own = np.flatnonzero((acts.user == moment.person) & (acts.at == moment.at))
        assert len(own) == BASKET
        assert moment.before == own[0]
        assert {*moment.outcomes} == {*acts.item[own].tolist()}
        assert not (moment.state(dataset).history.at >= moment.at).any()


def test_where_people_buy_again_the_ranker_learns_from_lists_with_and_without_what_they_had(dataset: Dataset) -> None:
    found = moments(dataset, parts(dataset))
    asked = {again: {m.before for m in found.rank if m.again is again and m.kept is None} for again in (True, False)}
    assert asked[True] == asked[False]
    assert all(moment.again for moment in found.calibrate), "probabilities are of the list that is asked for by default"
    single = replace(dataset, protocol="leave-one-out")
    assert all(moment.again for moment in moments(single, parts(single)).rank)


def test_where_people_act_on_one_thing_at_a_time_every_act_is_a_moment(dataset: Dataset) -> None:
    single = replace(dataset, protocol="leave-one-out")
    split = parts(single)
    assert sorted(every(moments(single, split))) == np.flatnonzero(split.rank | split.calibrate).tolist()


def test_moments_come_in_the_order_of_the_log(dataset: Dataset) -> None:
    found = moments(dataset, parts(dataset))
    for some in (found.rank, found.calibrate):
        assert [moment.before for moment in some] == sorted(moment.before for moment in some)


@pytest.mark.parametrize("protocol", ["time", "leave-one-out"])
def test_some_moments_are_learnt_from_once_more_as_a_newcomers(
    dataset: Dataset, protocol: Literal["time", "leave-one-out"]
) -> None:
    """Of whom the newest few acts are known, and nothing is known otherwise but what they say of themselves."""
    dataset = replace(dataset, protocol=protocol)
    found = moments(dataset, parts(dataset))
    whole = {moment.before: moment for moment in found.rank if moment.kept is None and moment.again}
    young = [moment for moment in found.rank if moment.kept is not None]
    assert len(young) == -(-len(whole) // NEWCOMERS)
    assert {moment.kept for moment in young} == set(KEPT)
    met = {person.user_id for person in dataset.people}
    for moment in young:
        state, known = moment.state(dataset), whole[moment.before].state(dataset)
        kept = min(int(moment.kept or 0), known.events)
        assert moment.outcomes == whole[moment.before].outcomes
        assert state.events == kept
        assert state.history.item_ids.tolist() == known.history.item_ids[len(known.history) - kept :].tolist()
        assert state.person.user_id not in met
        assert state.traits == known.traits
        had = set(known.history.item_ids)
        assert set(dataset.item_ids[moment.left_out(dataset)]) == (set() if dataset.repeats else had)
    assert all(moment.kept is None for moment in found.calibrate), "probabilities are of those who really come"
