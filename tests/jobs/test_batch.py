"""The batch program over a home's own log: the aggregates of a loop, a training set by either engine, all or nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs.batch import main, replaced
from jobs.definitions import LAST_N, PANE_NUMBERS
from jobs.event_files import finished
from tests import event_logs
from tests.event_logs import Message
from tests.events import features
from winnow.canonical import event_of
from winnow.errors import FailedPrecondition
from winnow.segments import EPOCH
from winnow.types import Event

pytestmark = [pytest.mark.platform, pytest.mark.slow]

LOG = event_logs.messages(300, seed=31)
CUT = 200
UNTIL_S = event_logs.micros(LOG[CUT]) / 1e6
EARLY = [event for event in LOG if event_logs.micros(event) / 1e6 <= UNTIL_S]
DAY_S = 86_400


def event(message: Message) -> Event:
    return event_of({**message, "occurred_at": EPOCH + timedelta(microseconds=event_logs.micros(message))})


async def recorded(home: Path) -> None:
    service = features(home)
    for start in range(0, len(LOG), 100):
        await service.record([event(message) for message in LOG[start : start + 100]])
    await service.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch") / "home"
    asyncio.run(recorded(folder))
    return folder


def rows(home: Path, table: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = ds.dataset(home / "spark" / "batch" / table).to_table().to_pylist()
    return found


def test_aggregates_are_those_of_a_loop_over_what_had_happened_by_then(spark: SparkSession, home: Path) -> None:
    at = datetime.fromtimestamp(UNTIL_S, UTC).isoformat()
    assert main(["aggregates", "--home", str(home), "--until", at]) == 0
    panes = {
        (r["of"], r["key"], r["hop_s"], r["start"]): [r[name] for name in PANE_NUMBERS] for r in rows(home, "panes")
    }
    wanted = event_logs.panes_of(EARLY)
    assert len(EARLY) < len(LOG)
    assert panes.keys() == wanted.keys()
    for place, numbers in wanted.items():
        assert panes[place] == pytest.approx(numbers, rel=1e-12), place
    sessions = event_logs.sessions_of(EARLY)
    names = ("person", "start_us", "end_us", "count", "purchases")
    told = sorted((*(r[name] for name in names), tuple(r["basket"])) for r in rows(home, "sessions"))  # type: ignore[arg-type]
    assert told == sessions
    pairs = {(r["item_id"], r["other_id"]): r["count"] for r in rows(home, "pairs")}
    assert pairs == event_logs.pairs_of(sessions)
    newest = {event_id for ids in event_logs.last_of(EARLY, LAST_N).values() for event_id in ids}
    assert {r["event_id"] for r in rows(home, "last_acts")} == newest
    counts = {r["item_id"]: r["count"] for r in rows(home, "item_stats")}
    acts = [one["item_id"] for one in EARLY if event_logs.is_act(one)]
    assert {item: n for item, n in counts.items() if n} == {item: acts.count(item) for item in set(acts)}


def test_the_training_set_of_either_engine_takes_the_place_of_the_other(spark: SparkSession, home: Path) -> None:
    until = str(UNTIL_S + DAY_S)
    sets = []
    for engine in ("spark", "duckdb"):
        assert main(["training-set", "--home", str(home), "--engine", engine, "--until", until]) == 0
        sets.append({row["event_id"]: (row["acted"], row["item_count"]) for row in rows(home, "training-set")})
    assert sets[0] == sets[1]
    assert len(sets[0]) > 10


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def write(words: str, fails: bool) -> None:
        with replaced(tmp_path / "out" / "table") as folder:
            folder.mkdir()
            (folder / "part").write_text(words)
            if fails:
                raise FailedPrecondition("the disk is full")

    write("first", fails=False)
    with pytest.raises(FailedPrecondition):
        write("second", fails=True)
    assert (tmp_path / "out" / "table" / "part").read_text() == "first"
    write("third", fails=False)
    assert (tmp_path / "out" / "table" / "part").read_text() == "third"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["table"]


def test_files_in_the_making_are_not_read(tmp_path: Path, home: Path) -> None:
    whole = pq.read_table(home / "spark" / "log" / "events.parquet")
    for place in ("date=2025-03-01/batch=1", ".spark-staging-7/date=2025-03-01", "_temporary/0"):
        (tmp_path / place).mkdir(parents=True)
        pq.write_table(whole, tmp_path / place / "part-0.parquet")
    assert [file.parent.name for file in finished(tmp_path)] == ["batch=1"]


def test_a_home_without_events_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="holds no event log"):
        main(["training-set", "--home", str(tmp_path)])
    with pytest.raises(FailedPrecondition, match="--from log"):
        main(["training-set", "--home", str(tmp_path), "--from", "stream"])
