"""What is remembered of columns inside a process says the same as what is looked up."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

from tests.bundles import SOURCES, make_items, make_user
from winnow.candidate_features import candidate_names, candidate_numbers
from winnow.catalogue import Catalogue
from winnow.features import UserView
from winnow.types import Candidates, Context, strings
from winnow.wire import types as wire


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    made = Catalogue()
    made.upsert(make_items(50))
    return made


def test_ids_that_the_catalogue_named_come_back_as_their_rows(catalogue: Catalogue) -> None:
    rows = np.asarray([7, 3, 3, 49])
    ids = catalogue.names(rows)
    assert ids.tolist() == ["i7", "i3", "i3", "i49"]
    assert catalogue.rows(ids) is rows
    assert catalogue.rows(ids.copy()).tolist() == catalogue.rows(ids.tolist()).tolist() == [7, 3, 3, 49]
    assert catalogue.rows(["i1", "nothing"]).tolist() == [1, -1], "while others are remembered"
    for column in (ids, rows):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = column[1]  # else the rows would be another's


def test_what_another_catalogue_named_is_looked_up(catalogue: Catalogue) -> None:
    other = Catalogue()
    other.upsert(reversed(make_items(50)))
    assert other.rows(catalogue.names(np.asarray([0]))).tolist() == [49]


def test_nothing_is_remembered_of_a_column_that_is_gone(catalogue: Catalogue) -> None:
    gc.collect()
    before = len(catalogue._named)
    for _ in range(100):
        catalogue.names(np.asarray([1]))
    assert len(catalogue._named) == before


def test_items_of_one_first_category_have_one_number() -> None:
    catalogue, items = Catalogue(), make_items(1_100)  # more than it makes room for at first
    catalogue.upsert(items[:60])
    catalogue.upsert(items)
    catalogue.upsert(
        [replace(items[0], categories=()), replace(items[1], categories=("its own", *items[2].categories))]
    )
    first = [item.categories[0] for item in items]
    numbers = catalogue.category
    assert (len(numbers), numbers[0]) == (1_100, -1)
    assert np.count_nonzero(numbers == numbers[1]) == 1
    assert len({*zip(first[2:], numbers[2:].tolist(), strict=True)}) == len(set(first[2:])) == len(set(numbers[2:]))


def test_numbers_of_candidates_are_the_same_by_blocks_and_by_columns() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2 ** len(SOURCES), 30).astype(np.uint32)
    scores = rng.random((30, len(SOURCES)), np.float32)
    candidates = Candidates(strings([f"i{n}" for n in range(30)]), bits, scores, SOURCES)
    names = candidate_names(SOURCES)
    nobody = UserView(make_user("u"), Context(), lambda _: None)
    blocks, columns = (candidate_numbers(candidates, some, nobody) for some in (names, [*names]))
    assert blocks.dtype == columns.dtype == np.float32
    assert np.array_equal(blocks, columns)
    assert np.array_equal(blocks[:, 1 + len(SOURCES)], bits & 1)


def test_the_message_of_a_state_is_made_once_and_goes_with_it() -> None:
    user = make_user("u", ["i1", "i2"])
    assert wire.user_to(user) is wire.user_to(user)
    arrived = wire.user_to(user)
    sent_on = wire.user_as_sent(arrived)
    assert wire.user_to(sent_on) is arrived
    assert wire.state_to(sent_on) == arrived
    gc.collect()
    before = len(wire.STATES)
    del user, sent_on
    gc.collect()
    assert len(wire.STATES) == before - 2
