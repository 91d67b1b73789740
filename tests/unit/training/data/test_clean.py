"""What is kept can be read by every service, what is not has a reason."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.clean import clean_events, clean_items, clean_users
from winnow.canonical import event_of, item_of
from winnow.image_vectors import unpacked

GOOD = {"event_id": "e", "type": "click", "item_id": "i", "user_id": "u", "occurred_at": "2026-01-01T00:00:00Z"}

KNOWN = "known are impression, click, cart, purchase, rating, dismiss"

CONTROL = "a\x00b,a\x1fb,\x7f,\x85x,\xa0,\n"
NUMBERS = "1,-1,0,1.5,nan,inf,1e99,1767225600"
TIMES = "2026-01-01,2026-01-01 10:30,1969-12-31T23:00:00Z,9999-01-01"
WORDS = "ü,click,rating,purchase,EUR,eur,true,maybe,a|b|a, x ,x"
LONG = ("x" * 257, "x" * 257 + "|y", "|".join(f"c{n}" for n in range(65)))

awkward = st.none() | st.sampled_from(
    ("", " ", *LONG, *(value for values in (CONTROL, NUMBERS, TIMES, WORDS) for value in values.split(",")))
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {name: st.sampled_from((value, value, value, None)) | awkward for name, value in GOOD.items()},
            optional=dict.fromkeys(("value", "quantity", "position", "session_id", "request_id", "context.a"), awkward),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_event_that_is_kept_is_one(rows: list[dict[str, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema_overrides=dict.fromkeys({n for row in rows for n in row}, pl.String))
    cleaned = clean_events(frame.with_row_index("row", offset=1))
    kept = [event_of(row) for row in cleaned.table.to_pylist()]
    assert len(kept) + len(cleaned.rejects) == len(rows)
    assert {*cleaned.rows.tolist(), *(row for row, _ in cleaned.rejects)} == set(range(1, len(rows) + 1))


ITEM = ("title", "description", "categories", "brand", "price", "currency", "image_url", "created_at", "available")


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"item_id": st.just("i") | awkward}, optional=dict.fromkeys((*ITEM, "attributes.a"), awkward)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_item_that_is_kept_is_one(rows: list[dict[str, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema_overrides=dict.fromkeys({n for row in rows for n in row}, pl.String))
    cleaned = clean_items(frame.with_row_index("row", offset=1))
    assert len([item_of(row) for row in cleaned.table.to_pylist()]) + len(cleaned.rejects) == len(rows)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"item_id": None}, "item_id is missing"),
        ({"event_id": " "}, "event_id is missing"),
        ({"user_id": None}, "neither user_id nor session_id"),
        ({"occurred_at": "yesterday"}, "occurred_at cannot be read as a time"),
        ({"occurred_at": None}, "occurred_at is missing"),
        ({"occurred_at": "1500-01-01"}, "occurred_at is not between 1970 and 2200"),
        ({"type": "stare"}, f"type 'stare' is unknown; {KNOWN}"),
        ({"type": "a\nb" + "x" * 99}, f"type 'a b{'x' * 37}…' is unknown; {KNOWN}"),
        ({"type": "purchase", "value": "-1"}, "negative price"),
        ({"type": "rating"}, "a rating without value"),
        ({"value": "dear"}, "value is not a number"),
        ({"quantity": "0"}, "quantity is below 1"),
        ({"quantity": "1.5"}, "quantity is not whole"),
        ({"item_id": "x" * 300}, "item_id has more than 256 characters"),
        ({"fault": "not a JSON object", "item_id": None}, "not a JSON object"),
    ],
)
def test_a_bad_event_is_rejected_with_its_row_and_reason(change: dict[str, str | None], reason: str) -> None:
    bad = {**GOOD, **change}
    frame = pl.DataFrame([GOOD, bad], schema_overrides=dict.fromkeys(bad, pl.String), strict=False)
    cleaned = clean_events(frame.with_row_index("row", offset=1))
    if "value" in change and "type" not in change:
        assert cleaned.rejects == [(2, reason)]
    assert cleaned.rejects[-1] == (2, reason)
    assert cleaned.table.num_rows == 1


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
        ("2026-01-02 03:04", "2026-01-02T03:04:00+00:00"),
        ("2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05+00:00"),
        ("2026-01-02T03:04:05-0130", "2026-01-02T04:34:05+00:00"),
        ("1767322800", "2026-01-02T03:00:00+00:00"),
        ("1767322800.5", "2026-01-02T03:00:00.500000+00:00"),
        ("1767322800123", "2026-01-02T03:00:00.123000+00:00"),
        ("1767322800123456", "2026-01-02T03:00:00.123456+00:00"),
    ],
)
def test_times_are_read_in_many_shapes(written: str, iso: str) -> None:
    cleaned = clean_events(pl.DataFrame([{**GOOD, "occurred_at": written}]).with_row_index("row", offset=1))
    assert cleaned.table["occurred_at"][0].as_py().isoformat() == iso


VECTORS: dict[str, tuple[pl.DataType | type[pl.DataType], list[object]]] = {
    "lists": (pl.List(pl.Float32), [[0.5, -2.0], None, [1.0] * 2_049, [1.0, None]]),
    "arrays of half": (pl.Array(pl.Float16, 2), [[0.5, -2.0], None, [float("inf"), 0], [float("nan"), 0]]),
    "whole numbers": (pl.List(pl.Int64), [[1, -4], [], [10**6], [1, None]]),
    "text": (pl.String, ["[0.5, -2]", " ", "[0.5, -2, nan]", "0.5|dear"]),
    "text with bars": (pl.String, ["0.5|-2.0", "0|0", "1e30", "{}"]),
}


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors_of_images_are_read_in_many_shapes_and_bad_ones_rejected(kind: str) -> None:
    """The first row has one, the second none, the others bad ones."""
    dtype, values = VECTORS[kind]
    frame = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "image_vector": pl.Series(values, dtype=dtype)})
    cleaned = clean_items(frame.with_row_index("row", offset=1))
    first, second = map(item_of, cleaned.table.to_pylist())
    assert unpacked(first.image_vector)[1] / unpacked(first.image_vector)[0] == -4
    assert second.image_vector == b""
    assert [row for row, _ in cleaned.rejects] == [3, 4]
    assert all(why.startswith("image_vector ") for _, why in cleaned.rejects)


def test_traits_and_attributes_come_from_prefixed_columns() -> None:
    users = pl.DataFrame({"row": [1, 2], "user_id": ["a", "b"], "traits.country": ["DE", None], "traits.age": [3, 4]})
    table = clean_users(users).table
    assert table["traits"].to_pylist() == [[("country", "DE"), ("age", "3")], [("age", "4")]]
