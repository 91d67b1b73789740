"""A line of what was served keeps every bit, and the vector in it is what serving computes."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.features import FEATURES, RANKER_USER, UserView
from winnow.poison import Poison
from winnow.served import Served, of_json, to_json, vector_of
from winnow.types import Context, History, Item, Person, UserState, Vector, strings

AT = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
STATE = UserState(
    Person("u1"),
    known=True,
    traits={"gender": "f"},
    history=History(
        strings(["i1", "gone"]),
        strings(["click", "rating"]),
        np.array([np.nan, 4.0], np.float32),
        np.array([AT.timestamp() - 60, AT.timestamp() - 1.5]),
    ),
    seen=strings(["i1", "gone"]),
    events=2,
    watermark=7,
)


def served(vector: Vector | None) -> Served:
    return Served("r1", AT, STATE, Context("home", "phone", "", AT), catalogue=3, skipped=("ranking",), vector=vector)


@settings(max_examples=50)
@given(numbers=st.dictionaries(st.text(), st.floats(), max_size=4), texts=st.lists(st.text(), max_size=3))
def test_a_vector_read_back_has_the_same_bits(numbers: dict[str, float], texts: list[str]) -> None:
    back = of_json(to_json(served(Vector({"tokens": tuple(texts)}, numbers)))).vector
    assert back is not None
    assert back.texts == {"tokens": tuple(texts)}
    assert list(back.numbers) == list(numbers)
    assert np.array(list(back.numbers.values())).tobytes() == np.array(list(numbers.values())).tobytes()


def test_what_was_served_is_read_back_whole() -> None:
    back = of_json(to_json(served(None)))
    assert (back.request_id, back.at, back.context, back.catalogue) == ("r1", AT, Context("home", "phone", "", AT), 3)
    assert (back.kind, back.skipped, back.vector) == ("recommend", ("ranking",), None)
    assert (back.user.person, back.user.watermark, back.user.events) == (Person("u1"), 7, 2)
    assert back.user.history.values.tobytes() == STATE.history.values.tobytes()


def test_the_vector_has_every_feature_that_a_ranker_may_read() -> None:
    view = UserView(STATE, Context("home", at=AT), {"i1": Item("i1", categories=("a",), price=9.0)}.get)
    vector = vector_of(view)
    assert {*vector.texts, *vector.numbers} == set(RANKER_USER)
    assert all((FEATURES[name].kind == "number") == (name in vector.numbers) for name in RANKER_USER)
    assert vector.texts["context_hour"] == ("23",)
    assert vector.texts["user_top_category"] == ("a",)
    assert vector.numbers["user_mean_log_price"] == np.log1p(9.0)
    assert vector.numbers["user_last_value"] == 4.0


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"schema": 1}', b'{"schema": 2}'])
def test_what_was_never_served_is_refused(line: bytes) -> None:
    with pytest.raises(Poison):
        of_json(line)
