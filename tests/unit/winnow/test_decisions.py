"""A decision read back has the same bits, arranges the same slate, and what is none is refused with a reason."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.arrange import arrange
from tests.choices import candidates, decision, predictions, user
from winnow.decisions import SCHEMA, key_of, of_json, size_bytes, to_json
from winnow.poison import Poison
from winnow.types import Person, UserState

ids = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12)
numbers = st.floats(width=32)  # NaN and infinities too


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit, a NaN's too."""
    if isinstance(left, np.ndarray):
        alike = left.dtype == right.dtype and left.shape == right.shape
        return alike and (
            left.tolist() == right.tolist() if left.dtype == object else left.tobytes() == right.tobytes()
        )
    if is_dataclass(left) and type(left) is type(right):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(value, right[name]) for name, value in left.items())
    if isinstance(left, float):
        return np.float64(left).tobytes() == np.float64(right).tobytes()
    return bool(left == right)


@settings(max_examples=50)
@given(
    scores=st.lists(numbers, max_size=6),
    acts=st.lists(st.tuples(ids, st.just("click"), numbers, st.floats(0, 2e9)), max_size=3),
    seen=st.lists(ids, max_size=3),
    tail=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    ranked=st.booleans(),
)
def test_a_decision_read_back_has_the_same_bits(
    scores: list[float], acts: list[tuple[str, str, float, float]], seen: list[str], tail: list[int], ranked: bool
) -> None:
    one = decision(
        candidates=candidates(len(scores), scores),
        predictions=predictions(scores) if ranked else None,
        user=user(acts, seen, tail),
        rows=np.arange(len(scores)),
        propensities=np.array(scores, np.float32).clip(0, 1) if not np.isnan(scores).any() else decision().propensities,
    )
    assert same(of_json(to_json(one)), one)


@pytest.mark.parametrize("offset", [0, 2])
@pytest.mark.parametrize("ranked", [True, False])
def test_a_decision_arranges_the_same_slate_again(offset: int, ranked: bool) -> None:
    found = candidates(9, [0.0] * 9)
    heads = predictions([float(n % 4) for n in range(9)]) if ranked else None
    one = decision(candidates=found, predictions=heads, rows=arrange(found, heads, offset, 3), offset=offset)
    back = of_json(to_json(one))
    again = arrange(back.candidates, back.predictions, back.offset, len(back.rows))
    assert again.tolist() == one.rows.tolist()
    assert orjson.loads(to_json(one))["slate"] == [f"i{row}" for row in again]


def test_what_is_kept_in_memory_is_about_what_is_said() -> None:
    small, large = size_bytes(decision()), size_bytes(decision(n=1_000))
    assert small < 5_000
    assert 64_000 < large < 200_000


def test_decisions_of_one_user_have_one_key() -> None:
    assert key_of(decision()) == b"u"
    assert key_of(decision(user=UserState(Person(session_id="s")))) == b"s"


GOOD: dict[str, Any] = orjson.loads(to_json(decision()))


def places(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a tree of JSON."""
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def changed(path: tuple[Any, ...], value: Any) -> Any:
    """The good one with another value in one place."""
    if not path:
        return value
    whole = orjson.loads(orjson.dumps(GOOD))
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return whole


values = st.sampled_from([None, True, -1, 10**18, 2**64 - 1, 1e300, "", "é", "AAAA", [], [[1]], {}, {"dtype": "<f4"}])


@settings(max_examples=500)
@given(st.sampled_from(places(GOOD)), values)
def test_a_decision_that_was_tampered_with_is_read_or_refused_and_nothing_else(
    path: tuple[Any, ...], value: Any
) -> None:
    with suppress(Poison):
        assert to_json(of_json(orjson.dumps(changed(path, value))))


def test_a_decision_of_a_newer_schema_is_refused() -> None:
    with pytest.raises(Poison) as refused:
        of_json(orjson.dumps(GOOD | {"schema": SCHEMA + 1}))
    assert refused.value.reason == "newer-schema"
