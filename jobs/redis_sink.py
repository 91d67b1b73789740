"""Aggregates into Redis, so that doing it twice, or by a driver that should be dead, changes nothing.

Each write is one script on one key (a cluster may place keys where it likes) that checks the fence which the key holds:

    winnow:agg:pane:<of>:<hop_s>:<key>    hash  start -> numbers of `PANE_NUMBERS`, "#" -> fence    absolute values
    winnow:agg:last:<person>              zset  [event_id, item_id, type, value] at microseconds    united, then cut
    winnow:agg:pairs:<item_id>            hash  other item -> sessions, "#" -> fence                added once a fence
    winnow:agg:popular                    zset  item_id at log2 of its summed weight                only ever raised

Absolute values are refused from an older fence; additions from an older or equal one. Runs in Spark's workers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from pyspark.sql import DataFrame, Row

from jobs.definitions import ITEM, LAST_N, PANE_NUMBERS, STATS_HOP_S, WINDOWS
from jobs.fence import Fence
from winnow.errors import Unavailable

PREFIX = "winnow:agg"
FENCE = "#"
TIMEOUT_S = 5.0
PIPELINE = 500  # commands in flight
DAY_S = 86_400
SLACK_S = DAY_S  # a pane outlives the windows that read it by this much: late events, slow clocks
STATS_KEPT_S = 400 * DAY_S  # thirteen half-lives of `recent`
LAST_KEPT_S = 90 * DAY_S
MAX_PAIRS = 1_000  # others of one item; twice as many are cut to the most frequent

PANES_LUA = """
local own = redis.call('HGET', KEYS[1], '#')
if own and own > ARGV[1] then return '' end
redis.call('HSET', KEYS[1], '#', ARGV[1])
for n = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) then
  local starts, newest = redis.call('HKEYS', KEYS[1]), 0
  for _, start in ipairs(starts) do if start ~= '#' then newest = math.max(newest, tonumber(start)) end end
  for _, start in ipairs(starts) do
    if start ~= '#' and tonumber(start) <= newest - tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], start) end
  end
end
if ARGV[4] == '0' then return '' end
local total = 0
local flat = redis.call('HGETALL', KEYS[1])
for n = 1, #flat, 2 do
  local place = 0
  for number in string.gmatch(flat[n] == '#' and '' or flat[n + 1], '[^,]+') do
    place = place + 1
    if place == tonumber(ARGV[4]) then total = total + tonumber(number) end
  end
end
return string.format('%.17g', total)
"""
LAST_LUA = """
for n = 3, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[n], ARGV[n + 1]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -(tonumber(ARGV[1]) + 1))
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
PAIRS_LUA = """
local own = redis.call('HGET', KEYS[1], '#')
if own and own >= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], '#', ARGV[1])
for n = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[n], ARGV[n + 1]) end
local most = tonumber(ARGV[2])
if redis.call('HLEN', KEYS[1]) > 2 * most then
  local pairs, flat = {}, redis.call('HGETALL', KEYS[1])
  for n = 1, #flat, 2 do
    if flat[n] ~= '#' then pairs[#pairs + 1] = {flat[n], tonumber(flat[n + 1])} end
  end
  table.sort(pairs, function(a, b) return a[2] > b[2] or (a[2] == b[2] and a[1] < b[1]) end)
  for n = most + 1, #pairs do redis.call('HDEL', KEYS[1], pairs[n][1]) end
end
return 1
"""

KEPT_S = {window.hop_s: window.length_s + SLACK_S for window in WINDOWS} | {STATS_HOP_S: STATS_KEPT_S}
"""Width of a pane to how long it is kept; of two windows with one hop the longer counts, and it comes later."""


@dataclass(frozen=True, slots=True)
class RedisSink:
    """Writes DataFrames of `jobs.aggregates`. `url` may hold a password and is never shown."""

    url: str

    def panes(self, panes: DataFrame, fence: Fence) -> None:
        self._each(panes.repartition("of", "hop_s", "key").sortWithinPartitions("of", "hop_s", "key"), panes_of, fence)

    def last_acts(self, last: DataFrame, fence: Fence) -> None:
        self._each(last.repartition("person").sortWithinPartitions("person"), last_of, fence)

    def pairs(self, pairs: DataFrame, fence: Fence) -> None:
        self._each(pairs.repartition("item_id").sortWithinPartitions("item_id"), pairs_of, fence)

    def _each(self, rows: DataFrame, write: Callable[[Any, Iterator[Row], str], None], fence: Fence) -> None:
        """Run `write` over each partition, in its worker."""
        url, text = self.url, str(fence)

        def partition(part: Iterator[Row]) -> None:
            with connected(url) as client:
                write(client, part, text)

        rows.foreachPartition(partition)


@contextmanager
def connected(url: str) -> Iterator[Any]:
    from redis import Redis, exceptions

    try:
        with Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S) as client:
            yield client
    except (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError) as away:
        raise Unavailable(f"Redis: {type(away).__name__}") from away


def panes_of(client: Any, rows: Iterator[Row], fence: str) -> None:
    script = client.register_script(PANES_LUA)
    weight = PANE_NUMBERS.index("weight") + 1
    for keys in in_groups(rows, ("of", "hop_s", "key")):
        pipe = client.pipeline(transaction=False)
        for (of, hop_s, key), panes in keys:
            told = [word for pane in panes for word in (pane["start"], numbers(pane))]
            kept_s = KEPT_S[hop_s]
            summed = weight if (of, hop_s) == (ITEM, STATS_HOP_S) else 0
            args = [fence, kept_s, 2 * kept_s // hop_s, summed, *told]
            script(keys=[pane_key(of, hop_s, key)], args=args, client=pipe)
        totals = {key: float(total) for ((_, _, key), _), total in zip(keys, pipe.execute(), strict=True) if total}
        popular = {item: math.log2(total) for item, total in totals.items() if total > 0}
        if popular:
            client.zadd(f"{PREFIX}:popular", popular, gt=True)


def last_of(client: Any, rows: Iterator[Row], fence: str) -> None:
    """Needs no fence: lists of the newest unite in any order."""
    script = client.register_script(LAST_LUA)
    for keys in in_groups(rows, ("person",)):
        pipe = client.pipeline(transaction=False)
        for (person,), acts in keys:
            told = [word for act in acts for word in (act["at_us"], member(act))]
            script(keys=[f"{PREFIX}:last:{person}"], args=[LAST_N, LAST_KEPT_S, *told], client=pipe)
        pipe.execute()


def pairs_of(client: Any, rows: Iterator[Row], fence: str) -> None:
    script = client.register_script(PAIRS_LUA)
    for keys in in_groups(rows, ("item_id",)):
        pipe = client.pipeline(transaction=False)
        for (item_id,), others in keys:
            told = [word for other in others for word in (other["other_id"], other["count"])]
            script(keys=[f"{PREFIX}:pairs:{item_id}"], args=[fence, MAX_PAIRS, *told], client=pipe)
        pipe.execute()


def in_groups(rows: Iterable[Row], names: tuple[str, ...]) -> Iterator[list[tuple[tuple[Any, ...], list[Row]]]]:
    """Sorted rows by key, `PIPELINE` keys at a time."""
    groups = ((key, list(those)) for key, those in groupby(rows, lambda row: tuple(row[name] for name in names)))
    while some := list(islice(groups, PIPELINE)):
        yield some


def pane_key(of: str, hop_s: int, key: str) -> str:
    return f"{PREFIX}:pane:{of}:{hop_s}:{key}"


def numbers(pane: Row) -> str:
    return ",".join(repr(pane[name]) for name in PANE_NUMBERS)


def member(act: Row) -> str:
    return json.dumps([act["event_id"], act["item_id"], act["type"], act["value"]], ensure_ascii=False)
