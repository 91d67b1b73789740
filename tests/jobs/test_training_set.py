"""The training set: the same from Spark and from DuckDB, right against a loop, and blind to the future."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.batch import events_in
from jobs.definitions import COUNTED, WINDOWS
from jobs.event_files import COPIED, copied
from jobs.training_set import TrainingSet, feature, on_duckdb, on_spark
from tests import event_logs
from tests.event_logs import Message
from tests.homes import small_home
from winnow.canonical import event_of, event_row
from winnow.segments import EPOCH

pytestmark = [pytest.mark.platform, pytest.mark.slow]

LOG = event_logs.messages(500, seed=8, users=4, items=6)
UNTIL_S = event_logs.micros(LOG[-1]) / 1e6 + 86_400 * 0.75  # the outcome of the newest impressions is not known yet
WANTED = TrainingSet(UNTIL_S, positive_value=4.0)


def write(log: list[Message], folder: Path) -> Path:
    """The log with some events twice, in no order, in two files."""
    rows = [row(event) for event in event_logs.disturbed(log, seed=1, shift=200)]
    folder.mkdir()
    for part in (0, 1):
        pq.write_table(pa.Table.from_pylist(rows[part::2], COPIED), folder / f"{part}.parquet")
    return folder


def row(event: Message) -> dict[str, object]:
    at = EPOCH + timedelta(microseconds=event_logs.micros(event))
    return {**event_row(event_of({**event, "occurred_at": at})), "log_position": event["log_position"]}


def sorted_rows(table: pa.Table) -> list[dict[str, object]]:
    return sorted(table.to_pylist(), key=lambda one: str(one["event_id"]))


@pytest.fixture(scope="module")
def by_duckdb(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    files = write(LOG, tmp_path_factory.mktemp("set") / "events")
    return {str(one["event_id"]): one for one in on_duckdb(files, WANTED).to_pylist()}


def test_spark_and_duckdb_build_the_same_set(spark: SparkSession, tmp_path: Path) -> None:
    files = write(LOG, tmp_path / "events")
    by_spark = sorted_rows(on_spark(events_in(spark, str(files)), WANTED).toArrow())
    by_duckdb = sorted_rows(on_duckdb(files, WANTED))
    assert len(by_spark) == len(by_duckdb) > 50
    for one, other in zip(by_spark, by_duckdb, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, float):  # POWER of the two engines may differ in the last bit
                assert value == pytest.approx(other[name], rel=1e-12), name
            else:
                assert value == other[name], name


def test_features_are_what_a_loop_counts_before_each_impression(by_duckdb: dict[str, dict[str, object]]) -> None:
    shown = [event for event in LOG if event["type"] == "impression"]
    known = [event for event in shown if event_logs.micros(event) / 1e6 <= UNTIL_S - 86_400]
    assert by_duckdb.keys() == {event["event_id"] for event in known}
    assert len(known) < len(shown)
    for event in known[::7]:
        for side in ("user", "item"):
            for window in WINDOWS:
                for kind, name in COUNTED.items():
                    counted = event_logs.window_count(LOG, event, side, kind, window.length_s, window.hop_s)
                    assert by_duckdb[event["event_id"]][feature(side, name, window)] == counted


def test_item_statistics_and_outcomes_are_those_of_a_loop(by_duckdb: dict[str, dict[str, object]]) -> None:
    for event_id, told in by_duckdb.items():
        event = next(one for one in LOG if one["event_id"] == event_id)
        at, place = event_logs.micros(event), (event_logs.micros(event), event["log_position"])
        acts = [one for one in LOG if event_logs.is_act(one) and one["item_id"] == event["item_id"]]
        before = [one for one in acts if (event_logs.micros(one), one["log_position"]) < place]
        assert told["item_count"] == len(before)
        recent = sum(2.0 ** ((event_logs.micros(one) - at) / 1e6 / (30 * 86_400)) for one in before)
        assert told["item_recent"] == pytest.approx(recent, rel=1e-9)
        rated = [one["value"] for one in before if one["type"] == "rating"]
        assert told["item_mean_value"] == (pytest.approx(sum(rated) / len(rated)) if rated else None)
        own = [one for one in acts if event_logs.person(one) == event_logs.person(event)]
        after = [one for one in own if one not in before and event_logs.micros(one) <= at + 86_400_000_000]
        assert told["acted"] == any(one["type"] != "dismiss" for one in after)
        converted = [
            one["type"] in ("cart", "purchase") or (one["type"] == "rating" and one["value"] >= 4) for one in after
        ]
        assert told["converted"] == any(converted)


def test_an_event_of_the_future_changes_nothing(tmp_path: Path, by_duckdb: dict[str, dict[str, object]]) -> None:
    planted = [{**LOG[10], "event_id": f"planted-{n}", "log_position": 10_000 + n} for n in range(3)]
    at = ("2200-01-01T00:00:00Z", "2026-12-24T00:00:00Z", "2199-01-01T00:00:00Z")
    future = [{**one, "occurred_at": when, "type": "click"} for one, when in zip(planted, at, strict=True)]
    files = write([*LOG, *future[:2]], tmp_path / "events")
    assert {str(one["event_id"]): one for one in on_duckdb(files, WANTED).to_pylist()} == by_duckdb


def test_an_earlier_moment_is_not_changed_by_what_came_later(tmp_path: Path) -> None:
    cut = event_logs.micros(LOG[300]) / 1e6
    then = TrainingSet(cut, positive_value=4.0)
    early = [event for event in LOG if event_logs.micros(event) / 1e6 <= cut]
    whole, part = write(LOG, tmp_path / "whole"), write(early, tmp_path / "part")
    assert sorted_rows(on_duckdb(whole, then)) == sorted_rows(on_duckdb(part, then))


def test_the_log_of_a_home_is_copied_with_its_positions(tmp_path: Path) -> None:
    home = small_home(tmp_path / "home")
    n = copied(home, tmp_path / "files")
    found = pq.read_table(tmp_path / "files")
    assert n == len(found) > 100
    assert found["log_position"].to_pylist() == list(range(1, n + 1))
    assert len(on_duckdb(tmp_path / "files", TrainingSet(4e9))) == found["type"].to_pylist().count("impression")
