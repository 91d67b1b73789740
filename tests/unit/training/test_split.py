"""Every act is in one part, and no part knows what comes later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.homes import SMALL, small_home
from training.dataset import Dataset, load
from training.split import TIME_CUTS, Split, split


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(small_home(tmp_path_factory.mktemp("home"), replace(SMALL, people=40)))


def names(parts: Split) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The number of the part of each act; fails when it is not in exactly one."""
    masks = np.stack([parts.train, parts.rank, parts.calibrate, parts.test])
    assert (masks.sum(axis=0) == 1).all()
    return masks.argmax(axis=0)


def test_leave_one_out_tests_the_last_act_and_calibrates_the_one_before(dataset: Dataset) -> None:
    part = names(split(dataset, "evaluate"))
    for person in range(len(dataset.people)):
        acts = dataset.acts_of(person)
        own = part[acts]
        assert (np.diff(own) >= 0).all()
        if len(acts) > 3:
            ranked = min(max(round(len(acts) * 0.1), 1), 10)
            assert list(own[-2 - ranked :]) == [1] * ranked + [2, 3]
            assert (own[: -2 - ranked] == 0).all()
        assert own[0] == 0


def test_serving_an_ordered_set_keeps_nothing_back_for_a_test(dataset: Dataset) -> None:
    part = names(split(replace(dataset, clock="order"), "serve"))
    assert not (part == 3).any()
    assert all(part[dataset.acts_of(person)[-1]] == 2 for person in range(len(dataset.people)))


def test_serving_a_timed_set_cuts_at_quantiles_of_time(dataset: Dataset) -> None:
    part = names(split(dataset, "serve"))
    assert (np.diff(part) >= 0).all()
    assert np.bincount(part, minlength=4).tolist() == [320, 48, 32, 0]


def test_acts_of_one_time_are_never_parted(dataset: Dataset) -> None:
    same = replace(dataset, acts=replace(dataset.acts, at=np.floor(dataset.acts.at / 1e6) * 1e6))
    part = names(split(same, "serve"))
    for time in np.unique(same.acts.at):
        assert len(set(part[same.acts.at == time])) == 1


def test_a_time_protocol_cuts_at_its_dates(dataset: Dataset) -> None:
    timed = replace(dataset, protocol="time", acts=replace(dataset.acts, at=np.linspace(1.30e9, 1.33e9, 400)))
    part = names(split(timed, "evaluate"))
    first = [timed.acts.at[part == n].min() for n in (1, 2, 3)]
    assert all(cut <= at < cut + 1e5 for cut, at in zip(TIME_CUTS, first, strict=True))


def test_a_time_protocol_elsewhere_in_time_cuts_at_quantiles(dataset: Dataset) -> None:
    part = names(split(replace(dataset, protocol="time"), "evaluate"))
    assert (np.bincount(part, minlength=4) > 0).all()
