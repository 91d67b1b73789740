"""Events come back from a topic as they were; whatever else lies there is refused with a reason, and nothing else happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events import START, click
from winnow.canonical import event_row
from winnow.messages import SCHEMA, event_key, event_of, event_value
from winnow.poison import Poison
from winnow.types import Event, EventType

NOW = START + timedelta(days=1)
GOOD: dict[str, Any] = orjson.loads(event_value(event_row(click("e")), 3))
ids = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
events = st.builds(
    Event,
    event_id=ids,
    type=st.sampled_from(EventType),
    item_id=ids,
    occurred_at=st.datetimes(datetime(1970, 1, 2), datetime(2026, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
    user_id=ids,
    session_id=st.just("") | ids,
    value=st.floats(-1e6, 1e6),
    quantity=st.integers(1, 1_000_000),
    request_id=st.just("") | ids,
    position=st.none() | st.integers(1, 10_000),
    context=st.dictionaries(ids, ids, max_size=3),
)


def refusal(value: bytes) -> str:
    """Why it is refused; "" when it is not."""
    try:
        event_of(value, NOW)
    except Poison as refused:
        return refused.reason
    return ""


@given(events, st.integers(0, 2**63 - 1))
def test_an_event_comes_back_as_it_was(event: Event, position: int) -> None:
    found = event_of(event_value(event_row(event), position), NOW)
    assert (found.event, found.log_position) == (event, position)
    assert event_key(event_row(event)) == event.user_id.encode()


def test_a_session_without_a_user_is_its_own_key() -> None:
    assert event_key(event_row(click("e", user_id="", session_id="s"))) == b"s"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": SCHEMA + 1}, "newer-schema"),
        ({"schema": None}, "no-schema"),
        ({"schema": True}, "no-schema"),
        ({"schema": "1"}, "no-schema"),
        ({"event_id": ""}, "missing-id"),
        ({"type": "teleport"}, "unknown-type"),
        ({"occurred_at": 1_700_000_000}, "invalid"),
        ({"occurred_at": "2026-01-01T00:00:00"}, "invalid"),
        ({"occurred_at": (NOW + timedelta(hours=2)).isoformat()}, "future-time"),
        ({"quantity": 0}, "invalid"),
        ({"value": "10"}, "invalid"),
        ({"user_id": "", "session_id": ""}, "invalid"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(change: dict[str, Any], reason: str) -> None:
    assert refusal(orjson.dumps(GOOD)) == ""
    assert refusal(orjson.dumps(GOOD | change)) == reason


def test_what_is_no_json_object_is_refused() -> None:
    for value in (b"", b"\x00\xff", b"[]", b"null", b'{"schema": 1', b"[" * 5_000):
        assert refusal(value) == "not-json"


def test_a_field_that_a_later_release_added_is_passed_over() -> None:
    assert event_of(orjson.dumps(GOOD | {"mood": "fine"}), NOW).event == click("e")


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_give_an_event_or_a_reason(value: bytes) -> None:
    refusal(value)


@given(st.sampled_from(sorted(GOOD)), anything)
def test_no_value_of_a_field_does_either(name: str, value: object) -> None:
    refusal(orjson.dumps(GOOD | {name: value}))
