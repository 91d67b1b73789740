"""What the sink does to Redis once, it does not do twice, and not after a newer batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.sql import Row
from redis import Redis

from jobs import redis_sink
from jobs.definitions import LAST_N, PANE_NUMBERS
from jobs.fence import Fence
from jobs.redis_sink import last_of, pairs_of, panes_of
from parts.program import HOST, free_ports, running
from parts.redis import redis
from winnow.errors import Unavailable

pytestmark = pytest.mark.platform

OLD, NEW, NEWER = str(Fence(1_000, 9)), str(Fence(1_000, 10)), str(Fence(2_000, 0))
HOUR_PANES = "winnow:agg:pane:item:3600:i1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    [port] = free_ports(1)
    with running(redis(tmp_path_factory.mktemp("redis"), port)), Redis(port=port, decode_responses=True) as client:
        yield client


@pytest.fixture
def client(server: Redis) -> Redis:
    server.flushall()
    return server


def pane(start: int, count: int, hop_s: int = 3_600, weight: float = 8.0, key: str = "i1") -> Row:
    numbers: dict[str, Any] = {**dict.fromkeys(PANE_NUMBERS, 0), "count": count, "weight": weight, "value_sum": 0.0}
    return Row(of="item", key=key, hop_s=hop_s, start=start, **numbers)


def pair(item_id: str, other_id: str, count: int) -> Row:
    return Row(item_id=item_id, other_id=other_id, count=count)


def act(n: int, at_us: int) -> Row:
    return Row(person="u:1", event_id=f"e{n:04d}", item_id="i1", type="click", value=None, at_us=at_us, nth=1)


def counts(client: Redis, key: str = HOUR_PANES) -> dict[str, int]:
    place = PANE_NUMBERS.index("count")
    return {start: int(told.split(",")[place]) for start, told in client.hgetall(key).items() if start != "#"}


def test_fences_sort_as_texts_like_they_do_as_numbers() -> None:
    assert sorted([NEWER, OLD, NEW]) == [OLD, NEW, NEWER]


def test_a_pane_is_replaced_by_newer_batches_only(client: Redis) -> None:
    panes_of(client, iter([pane(0, 1), pane(3_600, 5)]), NEW)
    panes_of(client, iter([pane(0, 1), pane(3_600, 5)]), NEW)
    assert counts(client) == {"0": 1, "3600": 5}
    panes_of(client, iter([pane(0, 99)]), OLD)
    assert counts(client) == {"0": 1, "3600": 5}
    panes_of(client, iter([pane(0, 2)]), NEWER)
    assert counts(client) == {"0": 2, "3600": 5}


def test_panes_that_no_window_reads_any_more_are_dropped(client: Redis) -> None:
    hours = 3 * 8 * 24
    panes_of(client, iter([pane(hour * 3_600, 1) for hour in range(hours)]), NEW)
    kept = [int(start) for start in counts(client)]
    assert len(kept) == 8 * 24
    assert max(kept) == (hours - 1) * 3_600
    assert client.ttl(HOUR_PANES) > 7 * 86_400


def test_popularity_is_the_sum_over_all_days_whatever_the_batch_brought(client: Redis) -> None:
    day = 86_400
    panes_of(client, iter([pane(0, 1, day, 24.0), pane(day, 1, day, 8.0)]), OLD)
    panes_of(client, iter([pane(day, 2, day, 40.0), pane(0, 1, day, 1.0, key="i2")]), NEW)
    assert client.zrange("winnow:agg:popular", 0, -1, withscores=True) == [("i2", 0.0), ("i1", 6.0)]


def test_pairs_are_added_once_a_batch(client: Redis) -> None:
    first = [pair("a", "b", 2), pair("a", "c", 1), pair("b", "a", 2)]
    for _ in range(2):
        pairs_of(client, iter(first), OLD)
    assert client.hgetall("winnow:agg:pairs:a") == {"#": OLD, "b": "2", "c": "1"}
    pairs_of(client, iter([pair("a", "b", 3)]), NEW)
    pairs_of(client, iter(first), OLD)
    assert client.hgetall("winnow:agg:pairs:a") == {"#": NEW, "b": "5", "c": "1"}
    assert client.hgetall("winnow:agg:pairs:b") == {"#": OLD, "a": "2"}


def test_the_rarest_pairs_go_when_there_are_too_many(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_sink, "MAX_PAIRS", 3)
    pairs_of(client, iter([pair("a", f"o{n}", n) for n in range(1, 8)]), NEW)
    assert client.hgetall("winnow:agg:pairs:a") == {"#": NEW, "o5": "5", "o6": "6", "o7": "7"}


def test_lists_of_the_newest_unite_in_any_order_and_twice(client: Redis) -> None:
    late, early = [act(n, n) for n in range(150, 300)], [act(n, n) for n in range(150)]
    for part in (late, early, late, [act(299, 299)]):
        last_of(client, iter(part), OLD)
    found = [json.loads(told)[0] for told in client.zrange("winnow:agg:last:u:1", 0, -1)]
    assert found == [f"e{n:04d}" for n in range(300 - LAST_N, 300)]


def test_a_redis_that_is_away_is_an_outage_that_names_no_password() -> None:
    [port] = free_ports(1)
    with (
        pytest.raises(Unavailable) as away,
        redis_sink.connected(f"redis://:secret@{HOST}:{port}/0") as client,
    ):
        last_of(client, iter([act(1, 1)]), OLD)
    assert "secret" not in str(away.value)
