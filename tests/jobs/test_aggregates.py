"""Every aggregate equals its plain recomputation, on random events that come late and twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs import aggregates, parse
from jobs.definitions import PANE_NUMBERS
from jobs.records import COLUMNS
from tests import event_logs
from winnow.features import item_stats

pytestmark = [pytest.mark.platform, pytest.mark.slow]

LOG = event_logs.messages(600, seed=4)
RECEIVED = datetime(2026, 4, 1, tzinfo=UTC)


def records(spark: SparkSession, values: list[bytes | None]) -> DataFrame:
    rows = [(b"key", value, "t", 0, n, RECEIVED, 0) for n, value in enumerate(values)]
    return spark.createDataFrame(rows, COLUMNS)


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    """The log as it arrives, and each of its events once."""
    arrived = [event_logs.value(event) for event in event_logs.disturbed(LOG, seed=5)]
    return aggregates.deduplicated(parse.parse(records(spark, arrived)).events).persist()


def test_every_event_counts_once_and_keeps_its_fields(events: DataFrame) -> None:
    found = {row.event_id: row for row in events.collect()}
    assert len(found) == events.count() == len(LOG)
    for event in LOG:
        row = found[event["event_id"]]
        assert (row.user_id or "") == event["user_id"]
        assert (row.type, row.item_id, row.value) == (event["type"], event["item_id"], event["value"])
        assert (row.quantity, row.position, row.log_position) == (
            event["quantity"],
            event["position"],
            event["log_position"],
        )
        assert row.context == event["context"]


def test_panes_hold_what_a_loop_counts(events: DataFrame) -> None:
    rows = aggregates.panes(events).collect()
    found = {(row["of"], row["key"], row["hop_s"], row["start"]): [row[name] for name in PANE_NUMBERS] for row in rows}
    wanted = event_logs.panes_of(LOG)
    assert len(rows) == len(found)
    assert found.keys() == wanted.keys()
    for place, numbers in wanted.items():
        assert found[place] == pytest.approx(numbers, rel=1e-12), place


def test_item_statistics_are_those_that_models_are_trained_on(events: DataFrame) -> None:
    now = event_logs.micros(LOG[-1]) / 1e6
    found = {row.item_id: row for row in aggregates.item_stats(aggregates.panes(events), now).collect()}
    acts = [event for event in LOG if event_logs.is_act(event)]
    items = sorted({event["item_id"] for event in LOG})
    rated = np.array([event["value"] if event["type"] == "rating" else np.nan for event in acts], np.float32)
    at = np.array([event_logs.micros(event) / 1e6 for event in acts])
    wanted = item_stats(np.array([items.index(event["item_id"]) for event in acts]), at, rated, len(items), now)
    for n, item in enumerate(items):
        told = (found[item]["count"], found[item].recent, found[item].mean_value)
        assert told == pytest.approx((wanted["count"][n], wanted["recent"][n], wanted["mean_value"][n]), rel=1e-9)


def test_the_last_acts_are_the_newest(events: DataFrame) -> None:
    found: dict[str, list[str]] = {}
    for row in aggregates.last_acts(events, 7).orderBy("person", "nth").collect():
        found.setdefault(row.person, []).append(row.event_id)
    assert found == event_logs.last_of(LOG, 7)


def test_sessions_end_after_half_an_hour_and_their_baskets_make_pairs(events: DataFrame) -> None:
    sessions = aggregates.sessions(events)
    rows = sessions.select("person", "start_us", "end_us", "count", "purchases", "basket").collect()
    wanted = event_logs.sessions_of(LOG)
    assert len(wanted) > 20
    assert sorted((*row[:5], tuple(row.basket)) for row in rows) == wanted
    pairs = {(row.item_id, row.other_id): row["count"] for row in aggregates.pairs(sessions).collect()}
    assert pairs == event_logs.pairs_of(wanted)
    assert pairs


GOOD = {**LOG[0], "type": "click", "user_id": "u1", "occurred_at": "2026-03-01T12:00:00.250000Z"}
READABLE = [
    GOOD,
    {**GOOD, "occurred_at": 1772366400.25},
    {**GOOD, "occurred_at": "2026-03-01T14:00:00.25+02:00"},
    {**GOOD, "added_by_a_newer_release": [1, 2]},
]
DEAD = [
    ("not-json", b"{rubbish"),
    ("not-json", b""),
    ("not-json", None),
    ("not-json", b"\xff\xfe"),
    ("no-schema", b"[1, 2]"),
    ("no-schema", {name: value for name, value in GOOD.items() if name != "schema"}),
    ("newer-schema", {**GOOD, "schema": 2}),
    ("missing-id", {**GOOD, "event_id": ""}),
    ("unknown-type", {**GOOD, "type": "hover"}),
    ("invalid", {**GOOD, "occurred_at": "2026-03-01T12:00:00"}),
    ("invalid", {**GOOD, "occurred_at": "2026-13-01T12:00:00Z"}),
    ("invalid", {**GOOD, "occurred_at": 1772366400250}),
    ("invalid", {**GOOD, "user_id": "", "session_id": None}),
    ("invalid", {**GOOD, "item_id": ""}),
    ("invalid", {**GOOD, "item_id": "x" * 257}),
    ("invalid", {**GOOD, "value": "three"}),
    ("invalid", {**GOOD, "type": "rating", "value": None}),
    ("invalid", {**GOOD, "quantity": 0}),
    ("invalid", {**GOOD, "position": 0}),
    ("future-time", {**GOOD, "occurred_at": "2026-04-01T01:00:00.000001Z"}),
]


def test_what_cannot_be_read_is_told_apart_with_its_reason(spark: SparkSession) -> None:
    dead = [json.dumps(body).encode() if isinstance(body, dict) else body for _, body in DEAD]
    parsed = parse.parse(records(spark, [*map(event_logs.value, READABLE), *dead]))
    found = sorted(parsed.dead.collect(), key=lambda row: row.offset)
    assert [row.reason for row in found] == [reason for reason, _ in DEAD]
    assert [None if row.value is None else bytes(row.value) for row in found] == dead
    at = [row.at_us for row in parsed.events.selectExpr("unix_micros(occurred_at) AS at_us").collect()]
    assert at == [event_logs.micros(GOOD)] * len(READABLE)
