"""The streaming job, killed twice in the middle of a batch: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from redis import Redis

from jobs.definitions import LAST_N
from parts.kafka import kafka
from parts.program import HOST, Program, Running, free_ports, running, start
from parts.redis import redis
from parts.spark import spark
from tests import event_logs
from tests.event_logs import Message
from tests.jobs.topics import create, send

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(480)]

TOPIC = "winnow.events"
DAY_S = 86_400
LATENESS_S = 30 * DAY_S  # longer than the log: the network decides what is late, the test does not
WAIT_S = 180.0
POLL_S = 0.05  # looking costs milliseconds of what the job needs; what lies between two writes of a batch takes longer
AT_MOST = 350  # records of a batch: several batches between the crashes
LOG = event_logs.messages(900, seed=21)
ARRIVING = event_logs.disturbed(LOG, seed=22)
RUBBISH = [(b"x", b"{rubbish %d" % n) for n in range(7)]
QUERIES = ("log", "panes", "sessions")
OPTIONS = {"--every-s": 1.0, "--at-most": AT_MOST, "--lateness-s": LATENESS_S, "--shuffle-partitions": 1}


@dataclass
class Platform:
    """A broker, a Redis, and the job that is started and killed between them."""

    bootstrap: str
    home: Path
    redis: Redis
    program: Program

    @property
    def root(self) -> Path:
        return self.home / "spark"

    def numbers(self, query: str, kind: str) -> list[int]:
        """Batches of a checkpoint: `offsets` are begun, `commits` done."""
        files = (self.root / "checkpoints" / query / kind).glob("*")
        return sorted(int(file.name) for file in files if file.name.isdigit())

    def done(self, query: str) -> int:
        """Records whose batch is committed."""
        commits = self.numbers(query, "commits")
        if not commits:
            return 0
        planned = (self.root / "checkpoints" / query / "offsets" / str(commits[-1])).read_text().splitlines()
        return sum(json.loads(planned[-1])[TOPIC].values())

    def all_done(self, records: int) -> bool:
        return all(self.done(query) == records for query in QUERIES)

    def send(self, messages: list[Message], rubbish: list[tuple[bytes, bytes]]) -> None:
        good = [(event_logs.key(event), event_logs.value(event)) for event in messages]
        send(self.bootstrap, TOPIC, [*good, *rubbish])


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    kafka_port, redis_port, metrics_port = free_ports(3)
    bootstrap, url = f"{HOST}:{kafka_port}", f"redis://{HOST}:{redis_port}/0"
    words = tuple(str(word) for pair in OPTIONS.items() for word in pair)
    program = spark(tmp_path / "spark", bootstrap, tmp_path / "home", url, metrics_port, words)
    with running(kafka(tmp_path / "kafka", kafka_port), redis(tmp_path / "redis", redis_port)):
        create(bootstrap, TOPIC, 2)
        yield Platform(bootstrap, tmp_path / "home", Redis(port=redis_port, decode_responses=True), program)


def until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < end, f"{what} did not happen within {WAIT_S:g} s"
        time.sleep(POLL_S)


def started_beyond(platform: Platform, query: str) -> int:
    return max(platform.numbers(query, "offsets"), default=-1) - max(platform.numbers(query, "commits"), default=-1)


def killed_when(platform: Platform, happened: Callable[[], bool], what: str) -> dict[str, int]:
    """Start the job, kill it when `happened`; how many batches of each query were begun and not done."""
    job = start(platform.program)
    try:
        until(happened, what)
    finally:
        job.kill()
    return {query: started_beyond(platform, query) for query in QUERIES}


def test_nothing_is_lost_and_nothing_counts_twice_when_the_job_is_killed(platform: Platform) -> None:
    third = len(ARRIVING) // 3
    platform.send(ARRIVING[:third], RUBBISH[:3])
    first = killed_when(platform, lambda: bool(platform.redis.exists("winnow:agg:popular")), "a write to Redis")
    platform.send(ARRIVING[third : 2 * third], RUBBISH[3:])
    before = len(list(platform.root.glob("events/date=*/batch=*")))
    second = killed_when(
        platform, lambda: len(list(platform.root.glob("events/date=*/batch=*"))) > before + 1, "a write to Parquet"
    )
    assert sum((*first.values(), *second.values())) > 0, "each kill fell between two batches; nothing was tried"
    platform.send(ARRIVING[2 * third :], [])
    records = len(ARRIVING) + len(RUBBISH)
    with running(platform.program) as [job]:
        until(lambda: platform.all_done(records), "the end of the log")
        send(platform.bootstrap, TOPIC, [closing()])
        until(lambda: platform.all_done(records + 1), "the closing event")
        until(lambda: pairs_in(platform.redis) != {}, "the end of all sessions")
        until(lambda: started_beyond(platform, "sessions") == 0, "the end of that batch")
        stopped_in_peace(job)
    check_log(platform, records)
    check_panes(platform)
    check_lists(platform)
    check_sessions(platform)


def closing() -> tuple[bytes, bytes]:
    """A click long after everything: the watermark passes, and every session is over."""
    late = {**LOG[0], "event_id": "closing", "user_id": "closer", "item_id": "closed", "type": "click", "value": None}
    at = (event_logs.micros(LOG[-1]) / 1e6) + LATENESS_S + 3 * DAY_S
    return b"closer", event_logs.value({**late, "occurred_at": at})


def stopped_in_peace(job: Running) -> None:
    job.process.terminate()
    assert job.process.wait(45) in (0, None), "SIGTERM must end the job in peace"


def check_log(platform: Platform, records: int) -> None:
    """Every record is in the log once, duplicates of an event too, and what could not be read beside it."""
    rows = ds.dataset(platform.root / "events", partitioning="hive").to_table().to_pylist()
    dead = ds.dataset(platform.root / "dead-letters", partitioning="hive").to_table().to_pylist()
    places = [(row["topic_partition"], row["topic_offset"]) for row in rows]
    places += [(row["partition"], row["offset"]) for row in dead]
    assert len(places) == len(set(places)) == records + 1
    assert sorted(row["event_id"] for row in rows) == sorted([*(event["event_id"] for event in ARRIVING), "closing"])
    assert sorted(row["value"] for row in dead) == sorted(value for _, value in RUBBISH)
    assert {row["reason"] for row in dead} == {"not-json"}


def check_panes(platform: Platform) -> None:
    found = {}
    for name in platform.redis.scan_iter("winnow:agg:pane:*"):
        _, _, _, side, width, key = name.split(":", 5)
        for start_s, numbers in platform.redis.hgetall(name).items():
            if start_s != "#" and not key.endswith(("closer", "closed")):
                found[side, key, int(width), int(start_s)] = [float(number) for number in numbers.split(",")]
    wanted = event_logs.panes_of(LOG)
    assert found.keys() == wanted.keys()
    for place, numbers in wanted.items():
        assert found[place] == pytest.approx(numbers, rel=1e-12), place


def check_lists(platform: Platform) -> None:
    """The newest acts of each person, and the items in the order of their popularity."""
    for person, wanted in event_logs.last_of(LOG, LAST_N).items():
        found = platform.redis.zrange(f"winnow:agg:last:{person}", 0, -1, desc=True)
        assert [json.loads(act)[0] for act in found] == wanted
    weights: dict[str, float] = {}
    for event in filter(event_logs.is_act, LOG):
        weights[event["item_id"]] = weights.get(event["item_id"], 0.0) + event_logs.weight(event_logs.micros(event))
    popular = dict(platform.redis.zrange("winnow:agg:popular", 0, -1, withscores=True))
    assert popular.pop("closed") > 0
    assert popular == pytest.approx({item: math.log2(total) for item, total in weights.items()})


def check_sessions(platform: Platform) -> None:
    rows = ds.dataset(platform.root / "sessions", partitioning="hive").to_table().to_pylist()
    wanted = event_logs.sessions_of(LOG)
    names = ("person", "start_us", "end_us", "count", "purchases")
    assert sorted((*(row[name] for name in names), tuple(row["basket"])) for row in rows) == wanted
    assert pairs_in(platform.redis) == event_logs.pairs_of(wanted)


def pairs_in(client: Redis) -> dict[tuple[str, str], int]:
    found = {}
    for name in client.scan_iter("winnow:agg:pairs:*"):
        item = name.rsplit(":", 1)[1]
        found.update({(item, other): int(n) for other, n in client.hgetall(name).items() if other != "#"})
    return found
