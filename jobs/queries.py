"""The streaming queries: what each reads, computes by `jobs.aggregates`, and where each batch goes.

    log        every event as it came, by day; what could not be read; each person's newest acts     no state
    panes      counts per person and item and pane, changed ones with their new absolute values     update
    sessions   sessions that are over, and the pairs bought in them                                 append

An effect happens once although a batch may run again: every sink replaces, unites, or asks for the batch's fence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from jobs import aggregates, parquet_sink
from jobs.definitions import DEFAULT_LATENESS_S
from jobs.fence import Fence, epoch
from jobs.parse import dead_of, events_of, judge
from jobs.redis_sink import RedisSink
from jobs.session import read_events
from jobs.traced import traced
from winnow.topics import EVENTS

TOPIC = EVENTS.name
OBSERVED = "parsed"  # rows and dead rows of a batch, in its progress


@dataclass(frozen=True, slots=True)
class Settings:
    """Where events come from and aggregates go. `root` is a folder, or any address that Spark writes to."""

    bootstrap: str
    root: str
    redis_url: str
    topic: str = TOPIC
    every_s: float = 2.0
    at_most: int = 20_000  # records of one batch
    lateness_s: int = DEFAULT_LATENESS_S

    @property
    def log(self) -> str:
        return f"{self.root}/events"

    @property
    def dead_letters(self) -> str:
        return f"{self.root}/dead-letters"

    @property
    def sessions(self) -> str:
        return f"{self.root}/sessions"

    def checkpoint(self, query: str) -> str:
        return f"{self.root}/checkpoints/{query}"


@dataclass(frozen=True, slots=True)
class Query:
    """`rows` from judged records (`jobs.parse.judge`), and `sink` for one batch of them."""

    name: str
    mode: str
    rows: Callable[[DataFrame, Settings], DataFrame]
    sink: Callable[[DataFrame, Settings, Fence], None]


def log_batch(judged: DataFrame, settings: Settings, fence: Fence) -> None:
    judged.persist()
    try:
        with traced(judged, "log", settings.topic, fence):
            events = events_of(judged)
            parquet_sink.write(events, settings.log, F.col("occurred_at"), fence)
            parquet_sink.write(dead_of(judged), settings.dead_letters, F.col("timestamp"), fence)
            once = events.dropDuplicates(["event_id"])
            RedisSink(settings.redis_url).last_acts(aggregates.last_acts(once), fence)
    finally:
        judged.unpersist()


def pane_rows(judged: DataFrame, settings: Settings) -> DataFrame:
    return aggregates.panes(aggregates.deduplicated(events_of(judged), settings.lateness_s))


def panes_batch(panes: DataFrame, settings: Settings, fence: Fence) -> None:
    RedisSink(settings.redis_url).panes(panes, fence)


def session_rows(judged: DataFrame, settings: Settings) -> DataFrame:
    return aggregates.sessions(aggregates.deduplicated(events_of(judged), settings.lateness_s))


def sessions_batch(sessions: DataFrame, settings: Settings, fence: Fence) -> None:
    sessions.persist()
    try:
        parquet_sink.write(sessions, settings.sessions, F.timestamp_micros("start_us"), fence)
        RedisSink(settings.redis_url).pairs(aggregates.pairs(sessions), fence)
    finally:
        sessions.unpersist()


QUERIES = (
    Query("log", "append", lambda judged, settings: judged, log_batch),
    Query("panes", "update", pane_rows, panes_batch),
    Query("sessions", "append", session_rows, sessions_batch),
)


def start(spark: SparkSession, query: Query, settings: Settings) -> StreamingQuery:
    """Start, or go on from the query's checkpoint."""
    checkpoint = settings.checkpoint(query.name)
    born = epoch(spark, checkpoint)
    records = read_events(spark, settings.bootstrap, settings.topic, at_most=settings.at_most)
    dead = F.count(F.when(F.col("reason") != "", 1)).alias("dead")
    judged = judge(records).observe(OBSERVED, F.count(F.lit(1)).alias("rows"), dead)
    return (
        query.rows(judged, settings)
        .writeStream.queryName(query.name)
        .outputMode(query.mode)
        .option("checkpointLocation", checkpoint)
        .trigger(processingTime=f"{settings.every_s} seconds")
        .foreachBatch(lambda batch, number: query.sink(batch, settings, Fence(born, number)))
        .start()
    )
