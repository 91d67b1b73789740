"""Records of one range of a Kafka partition as Arrow batches: what a Spark task reads.

Columns are those of Spark's own `kafka` format. Knows nothing of topics that grow, limits or checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from kafka import KafkaConsumer  # type: ignore[import-untyped]
from kafka.structs import TopicPartition  # type: ignore[import-untyped]
from pyspark.sql.datasource import InputPartition

from winnow.errors import Unavailable
from winnow.kafka import connection, millis, opened, translated

COLUMNS = "key binary, value binary, topic string, partition int, offset long, timestamp timestamp, timestampType int"
ARROW = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("timestampType", pa.int32()),
    ]
)
HEADERS = "headers array<struct<key: string, value: binary>>"
"""A further column, where it is asked for."""
ARROW_HEADERS = ARROW.append(pa.field("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))))
STALLED_S = 30.0  # without one record of a range that the broker says it holds
POLL_S = 1.0
FETCH_ROWS = 5_000  # records of one Arrow batch


@dataclass
class Range(InputPartition):
    """Records `start` … `end` - 1 of one partition."""

    topic: str
    partition: int
    start: int
    end: int


def records(bootstrap: str, wanted: Range, *, headers: bool = False) -> Iterator[pa.RecordBatch]:
    """The records of a range, in order; offsets that hold none (markers of transactions) are passed over.

    Unavailable: the broker is away, or gives nothing for `STALLED_S`.
    """
    with translated(f"{wanted.topic}/{wanted.partition} at {bootstrap}"):
        consumer = opened(
            KafkaConsumer,
            **connection(bootstrap, "winnow-spark-task"),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=FETCH_ROWS,
            check_crcs=True,
            metrics_enabled=False,
        )
        try:
            place = TopicPartition(wanted.topic, wanted.partition)
            consumer.assign([place])
            consumer.seek(place, wanted.start)
            yield from batches(consumer, place, wanted.end, headers)
        finally:
            consumer.close(autocommit=False, timeout_ms=1_000)


def batches(consumer: Any, place: Any, end: int, headers: bool) -> Iterator[pa.RecordBatch]:
    moved = time.monotonic()
    while (position := consumer.position(place)) < end:
        records = consumer.poll(timeout_ms=millis(POLL_S)).get(place, [])
        wanted = [record for record in records if record.offset < end]
        if wanted:
            yield arrow(wanted, headers)
        if records and records[-1].offset >= end:
            return
        if consumer.position(place) > position:
            moved = time.monotonic()
        elif time.monotonic() - moved > STALLED_S:
            raise Unavailable(f"Kafka, {place}: nothing came at offset {position} for {STALLED_S:g} s")


def arrow(records: list[Any], headers: bool) -> pa.RecordBatch:
    schema = ARROW_HEADERS if headers else ARROW
    columns: list[list[Any]] = [
        [record.key for record in records],
        [record.value for record in records],
        [record.topic for record in records],
        [record.partition for record in records],
        [record.offset for record in records],
        [record.timestamp * 1_000 for record in records],
        [record.timestamp_type for record in records],
    ]
    if headers:
        columns.append([[{"key": key, "value": value} for key, value in record.headers] for record in records])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
