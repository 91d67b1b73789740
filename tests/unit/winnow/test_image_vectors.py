"""An item's image vector: what is taken, that every record and the wire keep it, and that nobody else sees it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.answers import item_json
from services.gateway.audited import written_items
from tests.refreshes import append
from winnow import segments
from winnow.canonical import BARE, ITEMS, item_row, item_table, items_of
from winnow.errors import InvalidArgument
from winnow.features import item_digest, tokens
from winnow.home import items_folder
from winnow.image_vectors import LARGEST, MAX_WIDTH, matrix, packed, received, sent, unpacked, widths
from winnow.messages import item_value
from winnow.tail import Tail
from winnow.types import Item

vectors = st.lists(st.floats(-LARGEST, LARGEST), max_size=8).map(lambda numbers: packed([1.0, *numbers]))
LAMP = Item(
    "i1",
    title="A lamp",
    description="warm",
    categories=("home", "light"),
    brand="b",
    price=9.5,
    currency="EUR",
    image_url="http://x/y.jpg",
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    attributes={"z": "1", "a": "2"},
)
SEEN = Item("i2", image_vector=packed([0.25, -3.0, 7e-5]))


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=20))
def test_what_is_kept_points_where_the_numbers_did(numbers: list[float]) -> None:
    vector = np.asarray([1.0, *numbers])
    kept = unpacked(packed(vector))
    assert kept.dtype == np.float32
    assert np.allclose(kept, vector, rtol=1e-3, atol=1e-7)
    assert packed(kept) == packed(vector)
    assert kept @ vector / np.linalg.norm(kept) / np.linalg.norm(vector) > 1 - 1e-6


@given(vectors)
def test_the_wire_keeps_every_bit(kept: bytes) -> None:
    assert received(sent(kept)) == kept


@pytest.mark.parametrize("nothing", [[], [0.0, -0.0], np.zeros(3), np.empty(0, np.float32)])
def test_nothing_and_zeros_are_no_vector(nothing: list[float]) -> None:
    assert packed(nothing) == b""


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ([1.0] * (MAX_WIDTH + 1), "at most 2,048"),
        ([1.0, float("nan")], "not finite"),
        ([float("inf")], "not finite"),
        ([1e30], "scale it to length 1"),
        ([1e-12, 1e-12], "scale it to length 1"),
        ([[1.0], [2.0]], "flat list"),
        (["a"], "list of numbers"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_field_and_a_remedy(numbers: list[float], why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as refused:
        packed(numbers)
    assert refused.value.field == "image_vector"


@pytest.mark.parametrize("wrong", [b"odd", bytes(2 * (MAX_WIDTH + 1)), bytes(4), np.float16("nan").tobytes(), None])
def test_an_item_keeps_nothing_else(wrong: bytes) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Item("i", image_vector=wrong)
    assert refused.value.field == "image_vector"


def test_bytes_that_are_no_float32_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="7 bytes are no little-endian float32"):
        received(b"7 bytes")


def test_rows_of_another_width_or_of_none_are_zeros() -> None:
    several = [packed([1, 2]), b"", packed([1, 2, 3])]
    assert matrix(several, 2).tolist() == [[1, 2], [0, 0], [0, 0]]
    assert widths(several) == {2: 1, 3: 1}


# ---------------------------------------------------------------------------------------------- records


@settings(max_examples=30)
@given(st.lists(vectors | st.just(b""), min_size=1, max_size=4))
def test_every_record_of_items_keeps_it(several: list[bytes]) -> None:
    items = [Item(f"i{n}", image_vector=kept) for n, kept in enumerate(several)]
    lines = orjson.loads(b"[" + segments.encode([item_row(item) for item in items]) + b"]")
    assert list(items_of(segments.table_of(lines, ITEMS))) == items
    assert list(items_of(item_table(items))) == items
    assert list(items_of(item_table(items).select(BARE))) == [item.without_image() for item in items]


def test_the_log_keeps_it_in_bulk_and_one_by_one_and_so_do_messages(tmp_path: Path) -> None:
    folder = items_folder(tmp_path)
    folder.mkdir(parents=True)
    pq.write_table(item_table([SEEN, LAMP]), segments.segment_path(folder, "import", 1))
    append(tmp_path, [], [SEEN])
    assert list(items_of(segments.whole(folder, ITEMS))) == [SEEN, LAMP, SEEN]
    rows = Tail(folder, 0, imports=True).read(3, 10)
    told = [json.loads(item_value(row, position)) for position, row in rows]
    assert told[0]["image_vector"] == told[2]["image_vector"]
    assert "image_vector" not in told[1]


def test_a_log_of_an_older_release_is_read_and_an_older_release_reads_this_one(tmp_path: Path) -> None:
    old, folder = pa.schema([field for field in ITEMS if field.name in BARE]), items_folder(tmp_path)
    folder.mkdir(parents=True)
    pq.write_table(item_table([LAMP]).select(BARE), segments.segment_path(folder, "import", 1))
    append(tmp_path, [], [SEEN])
    assert list(items_of(segments.whole(folder, ITEMS))) == [LAMP, SEEN]
    assert list(items_of(segments.whole(folder, old))) == [LAMP, SEEN.without_image()]


# ---------------------------------------------------------------------------------------------- who sees it


def test_digests_of_items_without_one_are_what_they_were() -> None:
    """Bundles and audit records of earlier releases hold these."""
    assert item_digest(LAMP) == 16620868455522785205
    audited = "0ab8e06bd06366ceafd86e8f87f5ffa2fcbcf5b0178e6cd871054e872248730f"
    assert written_items([LAMP])["digest"] == audited


def test_digests_change_with_it() -> None:
    other = Item("i2", image_vector=packed([0.25, -3.0, 8e-5]))
    for digest in (item_digest, lambda item: written_items([item])["digest"]):
        assert len({digest(item) for item in (SEEN, other, SEEN.without_image())}) == 3


def test_nobody_else_sees_it() -> None:
    assert "image_vector" not in repr(SEEN)
    assert tokens(SEEN) == []
    assert item_json(SEEN) == item_json(SEEN.without_image())
