"""What was known of the person and of the item at every impression, and what came of it: one row an impression.

Point in time by construction: the log of each person, item, and person with item is sorted once, events and marks
together, and a mark reads the sums that have run up to its place. An impression puts a mark where it stands itself and
one where each trailing window begins (`jobs.aggregates.WINDOWS`), and a count is the difference of the two. So the work
grows like sorting, not like impressions times events, and nothing after the impression can reach a feature; outcomes
are read from a mark of their own, `attribution_s` later.

This is one SQL text that Spark and DuckDB both run: the two cannot drift apart. Times are microseconds since 1970.
"""

# ruff: noqa: S608 -- the query is made of constants of ours

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.definitions import (
    COUNTED,
    HALF_LIFE_S,
    ITEM,
    LANDMARK_S,
    LOG_ORDER,
    USER,
    WINDOWS,
    TrailingWindow,
)
from jobs.event_files import finished
from winnow.errors import NotFound, WinnowError
from winnow.types import EventType

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

MICROS = 1_000_000
BOTH = "both"  # a person with an item: whose outcomes are asked for
NOW, AFTER = "now", "after"
END_OF_TIME = 2**62  # a place behind every event of the same moment
RUNNING = (*COUNTED.values(), "count", "converted", "weight", "value_sum", "rated")
"""Sums that run along a log; `RUNNING` of a mark are those of all events before it."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """`until` (seconds since 1970): nothing that happened later is read, and only impressions whose outcome is known by
    then are told. A rating from `positive_value` on is a conversion."""

    until: float
    attribution_s: int = 86_400
    positive_value: float = 1e9

    def sql(self, log: str) -> str:
        """The query over `log`, a table of `winnow.canonical.EVENTS` with `log_position`, `LOG_ORDER` and `at_us`."""
        return f"""
WITH numbered AS (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY {", ".join(LOG_ORDER)}) AS nth
  FROM {log} WHERE at_us <= {micros(self.until)}
), once AS (
  SELECT event_id, type, item_id, request_id, position, value, at_us, log_position AS place,
    CASE WHEN user_id IS NOT NULL THEN CONCAT('u:', user_id) ELSE CONCAT('s:', session_id) END AS person
  FROM numbered WHERE nth = 1
), impressions AS (
  SELECT * FROM once WHERE type = '{EventType.IMPRESSION}' AND at_us <= {micros(self.until - self.attribution_s)}
), marks AS (
{" UNION ALL ".join(self._marks())}
), rows_of_logs AS (
{" UNION ALL ".join(self._events())}
  UNION ALL
  SELECT side, id, at_us, place, 0 AS kind, event_id, edge, {", ".join(f"0 AS {name}" for name in RUNNING)} FROM marks
), running AS (
  SELECT side, event_id, edge, kind, {", ".join(map(running, RUNNING))} FROM rows_of_logs
), told AS (
  SELECT event_id, {", ".join(self._told())}
  FROM running WHERE kind = 0 GROUP BY event_id
)
SELECT i.event_id, i.request_id, i.position, i.person, i.item_id, i.at_us, {", ".join(self._features())}
FROM impressions i JOIN told t ON i.event_id = t.event_id
"""

    def _marks(self) -> Iterator[str]:
        """Where sums are read: per impression, side and edge."""
        for side in (USER, ITEM, BOTH):
            yield mark(side, NOW, "at_us", "place")
        for side in (USER, ITEM):
            for window in WINDOWS:
                yield mark(side, window.name, tail(window), "-1")
        yield mark(BOTH, AFTER, f"at_us + {self.attribution_s * MICROS}", str(END_OF_TIME))

    def _events(self) -> Iterator[str]:
        """Every event in each of its three logs."""
        act, rated = f"type != '{EventType.IMPRESSION}'", f"type = '{EventType.RATING}'"
        bought = f"type IN ('{EventType.CART}', '{EventType.PURCHASE}')"
        numbers = {
            **{name: flag(f"type = '{kind}'") for kind, name in COUNTED.items()},
            "count": flag(act),
            "converted": flag(f"{bought} OR ({rated} AND value >= {self.positive_value!r})"),
            "weight": f"CASE WHEN {act} THEN {weight('at_us')} ELSE 0 END",
            "value_sum": f"CASE WHEN {rated} THEN value ELSE 0 END",
            "rated": flag(f"{rated} AND value IS NOT NULL"),
        }
        columns = ", ".join(f"{numbers[name]} AS {name}" for name in RUNNING)
        for side in (USER, ITEM, BOTH):
            yield (
                f"  SELECT '{side}' AS side, {key(side)} AS id, at_us, place, 1 AS kind,"
                f" event_id, '' AS edge, {columns} FROM once\n"
            )

    def _told(self) -> Iterator[str]:
        """One row an impression: the running sums at each of its marks."""
        for side in (USER, ITEM):
            for edge in (NOW, *(window.name for window in WINDOWS)):
                for name in COUNTED.values():
                    yield at_mark(side, edge, name)
            for name in ("count", "weight", "value_sum", "rated"):
                yield at_mark(side, NOW, name)
        for edge in (NOW, AFTER):
            for name in ("count", "dismisses", "converted"):
                yield at_mark(BOTH, edge, name)

    def _features(self) -> Iterator[str]:
        for side in (USER, ITEM):
            for window in WINDOWS:
                for name in COUNTED.values():
                    yield f"{side}_now_{name} - {side}_{window.name}_{name} AS {feature(side, name, window)}"
            factor = f"POWER(CAST(2 AS DOUBLE), -({clock('i.at_us')}) / {HALF_LIFE_S!r})"
            yield f"{side}_now_count AS {side}_count"
            yield f"{side}_now_weight * {factor} AS {side}_recent"
            yield f"{side}_now_value_sum / NULLIF({side}_now_rated, 0) AS {side}_mean_value"
        answered = "(both_after_count - both_after_dismisses) - (both_now_count - both_now_dismisses)"
        yield f"CASE WHEN {answered} > 0 THEN 1 ELSE 0 END AS acted"
        yield "CASE WHEN both_after_converted > both_now_converted THEN 1 ELSE 0 END AS converted"


def feature(side: str, count: str, window: TrailingWindow) -> str:
    """The name of one count of a trailing window."""
    return f"{side}_{count}_{window.name}"


def mark(side: str, edge: str, at_us: str, place: str) -> str:
    return (
        f"  SELECT '{side}' AS side, {key(side)} AS id, {at_us} AS at_us, {place} AS place, event_id, '{edge}' AS edge"
        " FROM impressions\n"
    )


def key(side: str) -> str:
    return {USER: "person", ITEM: "item_id", BOTH: "CONCAT(person, CHR(31), item_id)"}[side]


def tail(window: TrailingWindow) -> str:
    """Where a window that ends at `at_us` begins: the first pane that starts after `at_us` less its length."""
    length, hop = window.length_s * MICROS, window.hop_s * MICROS
    return f"(at_us - {length}) - (at_us - {length}) % {hop} + {hop}"


def flag(condition: str) -> str:
    return f"CASE WHEN {condition} THEN 1 ELSE 0 END"


def clock(at_us: str) -> str:
    """Seconds since the landmark, as a double."""
    return f"CAST({at_us} AS DOUBLE) / 1e6 - CAST({LANDMARK_S!r} AS DOUBLE)"


def weight(at_us: str) -> str:
    """The forward-decayed weight of an act."""
    return f"POWER(CAST(2 AS DOUBLE), ({clock(at_us)}) / {HALF_LIFE_S!r})"


def running(name: str) -> str:
    kind = "DOUBLE" if name in ("weight", "value_sum") else "BIGINT"
    log = "PARTITION BY side, id ORDER BY at_us, place, kind ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    return f"CAST(SUM({name}) OVER ({log}) AS {kind}) AS {name}"


def at_mark(side: str, edge: str, name: str) -> str:
    return f"MAX(CASE WHEN side = '{side}' AND edge = '{edge}' THEN {name} END) AS {side}_{edge}_{name}"


def micros(seconds: float) -> int:
    return round(seconds * MICROS)


# ---------------------------------------------------------------------------------------------- engines


def on_spark(events: DataFrame, wanted: TrainingSet) -> DataFrame:
    """By Spark, from a DataFrame of events."""
    from pyspark.sql import functions as F

    events.withColumn("at_us", F.unix_micros("occurred_at")).createOrReplaceTempView("event_log")
    return events.sparkSession.sql(wanted.sql("event_log"))


def on_duckdb(files: Path, wanted: TrainingSet, *, threads: int = 2, memory: str = "2GB") -> pa.Table:
    """By DuckDB, from the Parquet files of events below a folder. NotFound where none is; WinnowError where one cannot
    be read, or memory does not do."""
    import duckdb

    every = [str(file) for file in finished(files)]
    if not every:
        raise NotFound(f"{files}: no files of events")
    try:
        with duckdb.connect(config={"threads": threads, "memory_limit": memory}) as engine:
            engine.execute("SET TimeZone = 'UTC'")
            events = engine.read_parquet(every, hive_partitioning=False).project("*, epoch_us(occurred_at) AS at_us")
            events.create_view("event_log")
            return engine.sql(wanted.sql("event_log")).to_arrow_table()
    except duckdb.Error as wrong:
        raise WinnowError(f"DuckDB: {wrong}") from wrong
