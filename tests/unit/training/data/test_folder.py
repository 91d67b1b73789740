"""Anybody's folder becomes a home: good rows in, bad rows listed, nothing usable said in one line."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import polars as pl
import pytest

from cli.console import failure
from training.data import open_source
from training.data.quotes import OPEN
from training.dataset import load
from training.ingest import IngestSummary, ingest
from winnow.errors import InvalidArgument, NotFound
from winnow.image_vectors import packed
from winnow.types import EventType

MAP = """
[dataset]
name = "shop"
clock = "order"
[events]
user_id = "customer"
item_id = "sku"
occurred_at = "when"
value = "price"
type = "=purchase"
[items]
item_id = "sku"
"attributes.colour" = "colour"
"""
EVENTS = """customer,sku,when,price
c1,a,2026-01-01,1.5
c1,b,2026-01-01T10:00:00Z,2
c2,a,oops,2
c2,a
,a,1704103200,2
c3,a,2026-01-01,-2
c3,"q
x",2026-01-02,3
c3,c,2026-01-02,3,too much
c3,c,2026-01-03,3
"""
ITEMS = [
    '{"sku": "a", "title": "A", "categories": ["x", "y"], "colour": "red", "price": 3, "image_vector": [0.5, 2, -1]}',
    "nonsense",
    '{"sku": "b", "price": -1}',
    '{"sku": "lonely", "available": false}',
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    place.mkdir()
    (place / "events.csv").write_text(EVENTS, encoding="utf-8")
    (place / "items.jsonl").write_text("\n".join(ITEMS), encoding="utf-8")
    (place / "columns.toml").write_text(MAP, encoding="utf-8")
    return place


def rejects(home: Path, table: str) -> dict[int, str]:
    lines = (home / "rejects" / f"{table}.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["row"]: entry["reason"] for entry in map(json.loads, lines)}


def run(place: Path, home: Path) -> IngestSummary:
    return ingest(str(place), home)


def test_good_rows_become_a_data_set_and_bad_ones_are_listed(place: Path, tmp_path: Path) -> None:
    summary = run(place, tmp_path / "home")
    assert (summary.name, summary.clock, summary.events, summary.items) == ("shop", "order", 4, 5)
    assert summary.rejected == {"events": 5, "items": 2, "users": 0}
    assert summary.bare_items == 3
    assert rejects(tmp_path / "home", "events") == {
        3: "occurred_at cannot be read as a time",
        4: "2 values, the header has 4",
        5: "neither user_id nor session_id",
        6: "negative price",
        8: "5 values, the header has 4",
    }
    assert rejects(tmp_path / "home", "items") == {2: "not a JSON object", 3: "negative price"}
    dataset = load(tmp_path / "home")
    by_id = {item.item_id: item for item in dataset.items}
    assert by_id["a"].categories == ("x", "y")
    assert by_id["a"].attributes == {"colour": "red"}
    assert by_id["a"].image_vector == packed([0.5, 2, -1])
    assert not by_id["lonely"].available
    assert {tuple(EventType)[kind] for kind in dataset.acts.type} == {EventType.PURCHASE}
    assert dataset.acts.value.tolist() == [1.5, 2.0, 3.0, 3.0]


def test_a_byte_that_is_not_utf_8_costs_its_row_and_no_other(place: Path, tmp_path: Path) -> None:
    lines = [
        b"customer,sku,when,price",
        "c1,café,2026-01-01,1".encode(),
        b"c2,caf\xe9,2026-01-01,1",
        b"c3,caf\xe9,2026",
    ]
    (place / "events.csv").write_bytes(b"\n".join([*lines, "Zoë,日本,2026-01-01,1".encode()]) + b"\n")
    assert run(place, tmp_path / "home").events == 2
    assert rejects(tmp_path / "home", "events") == {2: "sku is not UTF-8", 3: "3 values, the header has 4"}
    dataset = load(tmp_path / "home")
    assert {person.user_id for person in dataset.people} == {"c1", "Zoë"}
    assert {"café", "日本"} <= {item.item_id for item in dataset.items}


def test_a_quote_that_nothing_closes_costs_its_row_and_no_other(place: Path, tmp_path: Path) -> None:
    rows = [f"c{n},a,2026-01-01,1" for n in range(1, 1_001)]
    rows[500] = '"' + rows[500]
    (place / "events.csv").write_text("\n".join(["customer,sku,when,price", *rows, ""]), encoding="utf-8")
    assert run(place, tmp_path / "home").events == 999
    assert rejects(tmp_path / "home", "events") == {501: OPEN}


def test_two_stray_quotes_do_not_make_one_row_of_two(place: Path, tmp_path: Path) -> None:
    (place / "items.jsonl").unlink()
    (place / "items.csv").write_text('sku,title,colour\ni2,"Two,a\ni3,"Three",a\n', encoding="utf-8")
    run(place, tmp_path / "home")
    [(row, reason)] = rejects(tmp_path / "home", "items").items()
    assert row == 1
    assert "closes 1 line below, in the middle of a value" in reason
    titles = {item.item_id: item.title for item in load(tmp_path / "home").items}
    assert titles["i3"] == "Three"
    assert "i2" not in titles


@pytest.mark.parametrize("name", ["columns.toml", "columns.json"])
def test_a_map_that_begins_with_a_byte_order_mark_is_read(place: Path, tmp_path: Path, name: str) -> None:
    (place / "columns.toml").unlink()
    text = MAP if name == "columns.toml" else json.dumps(tomllib.loads(MAP))
    (place / name).write_text(text, encoding="utf-8-sig")
    assert run(place, tmp_path / "home").name == "shop"


def test_the_same_data_as_parquet_says_the_same(place: Path, tmp_path: Path) -> None:
    run(place, tmp_path / "csv")
    good = [line for n, line in enumerate(EVENTS.splitlines()) if n in (0, 1, 2, 7, 8, 10)]
    pl.read_csv("\n".join(good).encode()).write_parquet(place / "events.parquet")
    (place / "events.csv").unlink()
    run(place, tmp_path / "parquet")
    one, other = load(tmp_path / "csv"), load(tmp_path / "parquet")
    assert one.people == other.people
    assert (one.acts.at == other.acts.at).all()
    assert (one.acts.item == other.acts.item).all()


def test_options_lie_over_the_map(place: Path, tmp_path: Path) -> None:
    summary = ingest(str(place), tmp_path / "home", columns=["events.type==cart", "dataset.name=other"])
    assert summary.name == "other"
    assert set(load(tmp_path / "home").acts.type) == {tuple(EventType).index(EventType.CART)}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("events.csv", "customer,sku,price\n1,2,3\n", "events.csv has no column 'when'"),
        ("events.csv", "customer,sku,when,price\n1,a,x,1\n,b,y,1\n", "events: all 2 rows are bad; row 1: occurred_at"),
        ("events.csv", "", "events.csv cannot be read as CSV"),
        ("events.csv", "a,a\n1,2\n", "names a twice"),
        ("items.jsonl", "[1]\n[2]\n", "items.jsonl has no column 'sku'"),
        ("items.jsonl", '{"sku": ""}\n', "items: all 1 rows are bad; row 1: item_id is missing"),
        ("events.parquet", "", "keep one of events.parquet, events.csv"),
    ],
)
def test_a_file_that_cannot_be_used_stops_with_one_line(
    place: Path, tmp_path: Path, name: str, content: str, said: str
) -> None:
    (place / name).write_text(content, encoding="utf-8")
    with pytest.raises(InvalidArgument) as stopped:
        run(place, tmp_path / "home")
    assert said in stopped.value.detail
    assert "\n" not in stopped.value.detail
    assert not (tmp_path / "home" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[events]\nuser = 'customer'",
            "columns.toml: [events] user is no key (did you mean user_id?); known are context, ",
        ),
        ("[item]\nitem_id = 'sku'", "columns.toml: item is no table (did you mean items?); known are dataset, events,"),
        ("user_id = 'customer'", "columns.toml: user_id is no table; put it under [events] or [users]; known are"),
        ("events = 'customer'", "columns.toml: events = 'customer' is no table; for example user_id = \"customer\""),
        (
            "[events]\nuser_id = 'custmer'",
            "columns.toml: [events] user_id: events.csv has no column 'custmer' (did you mean customer?); it has customer",
        ),
        ("[events]\nuser_id = ['customer']", "columns.toml: [events] user_id = ['customer']: give one word or number"),
        (
            "[items]\nattributes.colour = 'colour'",
            'columns.toml: [items] attributes: put the whole name into quotes: "attributes.colour" = "column"',
        ),
        ("[dataset]\nname = 2026-01-02", "columns.toml: [dataset] name = datetime.date(2026, 1, 2): give one word"),
        ("[events]\nuser_id = 'customer'", 'under [events], which it is: item_id = "column"'),
        (
            "[dataset]\nclock = 'orders'",
            "columns.toml: [dataset] clock = 'orders': must be one of real, order (did you mean order?)",
        ),
        (
            "[dataset]\npositive_value = 'high'",
            "[dataset] positive_value = 'high': must be a number, as positive_value",
        ),
        ("[dataset]\npositive_value = nan", "[dataset] positive_value = nan: must be a number"),
        ("[events", "columns.toml cannot be read: Expected ']'"),
    ],
)
def test_a_mistake_in_the_map_names_the_file_the_key_and_what_would_be_right(place: Path, text: str, said: str) -> None:
    (place / "columns.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidArgument) as stopped:
        open_source(str(place))
    assert said in failure(stopped.value)
    assert "\n" not in stopped.value.detail


def test_a_map_in_json_is_named_by_its_own_name(place: Path) -> None:
    (place / "columns.toml").unlink()
    for text, said in (
        ('{"event": {}}', "columns.json: event is no table (did you mean events?)"),
        ("[]", "no tables"),
    ):
        (place / "columns.json").write_text(text, encoding="utf-8")
        with pytest.raises(InvalidArgument, match=re.escape(said)):
            open_source(str(place))


def test_a_file_of_another_kind_stops_with_one_line(place: Path, tmp_path: Path) -> None:
    (place / "events.csv").rename(place / "events.parquet")
    with pytest.raises(InvalidArgument, match=r"events\.parquet cannot be read as PARQUET"):
        run(place, tmp_path / "home")


def test_a_folder_without_events_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no events"):
        run(tmp_path, tmp_path / "home")


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="ml-100k, ml-1m, goodbooks, online-retail"):
        ingest("ml-200k", tmp_path / "home")


def test_an_event_id_that_comes_twice_is_kept_once(tmp_path: Path) -> None:
    lines = [{"event_id": f"e{n % 3}", "user_id": "u", "item_id": f"i{n}", "occurred_at": 1e9 + n} for n in range(5)]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert run(tmp_path, tmp_path / "home").events == 3
    assert rejects(tmp_path / "home", "events") == {4: "event_id came before", 5: "event_id came before"}
    assert [item.item_id for item in load(tmp_path / "home").items] == ["i0", "i1", "i2"]
