"""What a moment is where nothing was logged: an act, or, where people buy several things at once, a whole basket."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.shops import BASKET, MONTHS, shop
from training.dataset import Dataset
from training.moments import Moments, moments
from training.past import Past
from training.split import Split, by_time

END = float("inf")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Past(shop(tmp_path_factory.mktemp("shop"), people=8, baskets=2)).whole


def parts(dataset: Dataset) -> Split:
    return by_time(dataset.acts.at, MONTHS[1], MONTHS[2], END)


def every(found: Moments) -> list[int]:
    return [moment.before for moment in (*found.rank, *found.calibrate)]


def test_a_basket_is_one_moment_of_which_nothing_is_known_yet(dataset: Dataset) -> None:
    found = moments(dataset, parts(dataset))
    acts = dataset.acts
    assert len(found.rank) == 8 * 2
    for moment in (*found.rank, *found.calibrate):
        own = np.flatnonzero((acts.user == moment.person) & (acts.at == moment.at))
        assert len(own) == BASKET
        assert moment.before == own[0]
        assert {*moment.outcomes} == {*acts.item[own].tolist()}
        assert not (moment.state(dataset).history.at >= moment.at).any()


def test_where_people_act_on_one_thing_at_a_time_every_act_is_a_moment(dataset: Dataset) -> None:
    single = replace(dataset, protocol="leave-one-out")
    split = parts(single)
    assert sorted(every(moments(single, split))) == np.flatnonzero(split.rank | split.calibrate).tolist()


def test_moments_come_in_the_order_of_the_log(dataset: Dataset) -> None:
    found = moments(dataset, parts(dataset))
    for some in (found.rank, found.calibrate):
        assert [moment.before for moment in some] == sorted(moment.before for moment in some)
