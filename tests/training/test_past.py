"""What was known at a moment, and that nothing which came later changes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.shops import MONTHS, PER_MONTH, price, shop
from tests.training.worlds import colour_world
from training.past import Past
from training.replay import Month
from winnow.errors import FailedPrecondition

MARCH = MONTHS[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop(tmp_path_factory.mktemp("shop"))


def test_only_acts_items_and_prices_of_before_are_known(home: Path) -> None:
    past = Past(home)
    known = past.until(MARCH)
    assert (known.acts.at < MARCH).all()
    assert len(known.acts) == (past.whole.acts.at < MARCH).sum()
    assert {item.item_id for item in known.items} == {f"i{n}" for n in range(2 * PER_MONTH)}
    for item in known.items:
        paid = known.acts.value[known.acts.item == known.item_ids.tolist().index(item.item_id)]
        assert item.price == pytest.approx(np.median(paid))
        assert item.price <= price(int(item.item_id[1:]), 1)


def test_another_future_leaves_the_past_as_it_was(home: Path, tmp_path: Path) -> None:
    other = Past(shop(tmp_path, plant=MARCH))
    assert other.until(MARCH).snapshot == Past(home).until(MARCH).snapshot
    assert other.until(MARCH + 86_400).snapshot != Past(home).until(MARCH + 86_400).snapshot


def test_an_item_that_does_not_say_when_it_came_is_known_after_its_first_event(tmp_path: Path) -> None:
    past = Past(shop(tmp_path, plant=MARCH))
    whole = past.whole
    planted = [n for n, item_id in enumerate(whole.item_ids) if item_id.startswith("planted")]
    first = {whole.item_ids[n]: whole.acts.at[whole.acts.item == n].min() for n in planted}
    assert first
    for item_id, at in first.items():
        assert item_id not in {item.item_id for item in past.items(at)}
        assert item_id in {item.item_id for item in past.items(at + 1)}


def test_a_thing_that_nobody_bought_yet_has_no_price(home: Path) -> None:
    new = [item for item in Past(home).items(MARCH + 60) if int(item.item_id[1:]) >= 2 * PER_MONTH]
    assert len(new) == PER_MONTH
    assert {item.price for item in new} == {None}


def test_without_purchases_prices_are_those_of_the_catalogue(tmp_path: Path) -> None:
    dataset = colour_world(tmp_path, people=6, acts=30)
    assert Past(tmp_path).until(np.inf).snapshot == dataset.snapshot


def test_a_home_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no data set"):
        Past(tmp_path)


def test_months_follow_each_other_over_the_year() -> None:
    assert str(Month(2010, 12).next()) == "2011-01"
    assert Month.named("2025-03").start == MARCH
    assert Month.of(MARCH) == Month(2025, 3)
    assert Month.of(MARCH - 1) == Month(2025, 2)
