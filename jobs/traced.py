"""The last part of a trace: the batch that read a sampled request's records from Kafka. Knows nothing of what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.fence import Fence
from winnow.kafka import on_topic
from winnow.tracing import MOST, TRACEPARENT, Attributes, Kind, Shared, TraceContext, read, recording

LOOKED_AT = 10 * MOST  # records of a batch; those of one request say the same
SAMPLED = "__-%-%-_1"


@contextmanager
def traced(batch: DataFrame, query: str, topic: str, fence: Fence) -> Iterator[None]:
    """A span in the trace of each sampled request of a batch, of `MOST` at most. Reads the batch, which should be kept,
    once more; not at all where nothing is recorded."""
    about: Attributes = {**on_topic(topic, "process"), "winnow.query": query, "winnow.batch": fence.batch}
    with Shared(f"process {topic}", Kind.CONSUMER, about) as traces:
        if recording():
            traces.join_all(places(batch))
        yield


def places(batch: DataFrame) -> list[TraceContext | None]:
    """Where the sampled records of a batch come from."""
    ours = F.filter("headers", lambda header: header["key"] == TRACEPARENT)
    found = batch.select(F.try_element_at(ours, F.lit(1))["value"].cast("string").alias("parent"))
    rows = found.where(F.col("parent").like(SAMPLED)).limit(LOOKED_AT).collect()
    return [read(row["parent"]) for row in rows]
