"""A log as columns: what plain loops over its events say, whether it comes whole or in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow import acts
from winnow.acts import ACTS, COLUMNS, TYPES, Journal, journal, texts
from winnow.canonical import EVENTS

Row = dict[str, Any]

SCHEMA = pa.schema([EVENTS.field(name) for name in COLUMNS])
IDS = [None, "a", "b", "c"]
KNOWN = ("x", "i1")


@st.composite
def logs(draw: st.DrawFn) -> list[Row]:
    """Events of a few people and sessions, with equal times, out of order, impressions among them."""
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "type": st.sampled_from([kind.value for kind in TYPES]),
                    "item_id": st.sampled_from(["i1", "i2", "i3"]),
                    "occurred_at": st.integers(0, 6).map(lambda s: datetime.fromtimestamp(1.7e9 + s, UTC)),
                    "user_id": st.sampled_from(IDS),
                    "session_id": st.sampled_from(IDS),
                    "value": st.sampled_from([None, 0.0, 2.5]),
                    "quantity": st.sampled_from([None, 1, 3]),
                    "request_id": st.sampled_from([None, "r1", "r2"]),
                    "position": st.sampled_from([None, 1, 2]),
                }
            ),
            max_size=30,
        )
    )
    return [row for row in rows if row["user_id"] or row["session_id"]]


def table_of(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def in_order_of_time(rows: list[Row]) -> list[tuple[int, Row]]:
    """With their positions in the log."""
    return sorted(enumerate(rows, 1), key=lambda placed: placed[1]["occurred_at"])


def told(found: Journal, columns: acts.Acts) -> list[tuple[Any, ...]]:
    """Acts or impressions in words."""
    names = [("user", one) for one in found.user_ids] + [("session", one) for one in found.session_ids]
    return [
        (names[user], found.item_ids[item], at, None if np.isnan(value) else value, TYPES[kind].value, quantity, place)
        for user, item, at, value, kind, quantity, place in zip(*(getattr(columns, n) for n in ACTS), strict=True)
    ]


def expected(placed: list[tuple[int, Row]]) -> list[tuple[Any, ...]]:
    return [
        (
            ("user", row["user_id"]) if row["user_id"] else ("session", row["session_id"]),
            row["item_id"],
            row["occurred_at"].timestamp(),
            row["value"],
            row["type"],
            row["quantity"] or 1,
            position,
        )
        for position, row in placed
    ]


@given(logs())
def test_it_says_what_loops_over_the_events_say(rows: list[Row]) -> None:
    found, placed = journal(table_of(rows), KNOWN), in_order_of_time(rows)
    happened = [one for one in placed if one[1]["type"] != "impression"]
    shown = [one for one in placed if one[1]["type"] == "impression"]
    assert told(found, found.acts) == expected(happened)
    assert told(found, found.impressions) == expected(shown)
    assert found.request_ids.tolist() == [row["request_id"] or "" for _, row in shown]
    assert found.places.tolist() == [row["position"] or 0 for _, row in shown]
    for name, ids in (("user_id", found.user_ids), ("session_id", found.session_ids)):
        assert ids == list(dict.fromkeys(row[name] for row in rows if row[name]))
    assert found.item_ids.tolist() == list(dict.fromkeys([*KNOWN, *(row["item_id"] for row in rows)]))
    for row in range(len(found.people)):
        assert found.acts_of(row).tolist() == np.flatnonzero(found.acts.user == row).tolist()


@given(logs())
def test_a_session_belongs_to_the_user_of_the_first_event_that_names_both(rows: list[Row]) -> None:
    found, placed = journal(table_of(rows)), in_order_of_time(rows)
    users: dict[str, tuple[str, int]] = {}
    for position, row in enumerate(rows, 1):
        if row["user_id"] and row["session_id"]:
            users.setdefault(row["session_id"], (row["user_id"], position))
    links = {
        found.session_ids[session - len(found.user_ids)]: (found.user_ids[link.user], link.since)
        for session, link in found.links.items()
    }
    assert links == {session: (user, acts_until(placed, position)) for session, (user, position) in users.items()}


def acts_until(placed: list[tuple[int, Row]], position: int) -> int:
    """How many acts there are, in the order of time, up to the event at this position of the log."""
    until = [there for there, _ in placed].index(position) + 1
    return sum(row["type"] != "impression" for _, row in placed[:until])


@settings(deadline=None)
@given(logs(), st.lists(st.integers(0, 30), max_size=4), st.integers(1, 7))
def test_in_parts_it_is_the_same(rows: list[Row], cuts: list[int], most: int) -> None:
    whole, edges = table_of(rows), sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})

    def parts() -> Iterator[pa.Table]:
        for start, end in pairwise(edges):
            yield whole.slice(start, end - start)

    with patch.object(acts, "BATCH", most):
        assert all(0 < len(table) <= most for table in acts.batches(parts()))
        found = journal(parts(), KNOWN)
    assert same(found, journal(whole, KNOWN))


def same(one: Any, other: Any) -> bool:
    """Equal to the type of every column."""
    if isinstance(one, np.ndarray):
        return (
            one.dtype == other.dtype and one.tobytes() == other.tobytes()
            if one.dtype != object
            else list(one) == list(other)
        )
    if isinstance(one, Journal | acts.Acts):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    return bool(one == other)


def test_a_page_that_was_shown_is_named_by_one_object() -> None:
    """A log holds many impressions of each page."""
    found = texts(pa.chunked_array([["page-1", "page-2", None], ["page-1"]], pa.string()))
    assert found.tolist() == ["page-1", "page-2", "", "page-1"]
    assert found[0] is found[3]
