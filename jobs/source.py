"""Kafka as a Python streaming source, for where Spark's own `kafka` format has no jar.

Options and columns are those of Spark's `kafka` format, so a query does not know which of the two it reads; only
their checkpoints differ. One Kafka partition is one Spark partition; offsets are checkpointed by Spark and never
committed to a group. Partitions are asked for anew at every batch, so a topic may grow while a query runs. Knows
nothing of what the records mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cached_property
from typing import Any

import pyarrow as pa
from kafka import KafkaAdminClient  # type: ignore[import-untyped]
from kafka.admin import OffsetSpec  # type: ignore[import-untyped]
from kafka.structs import TopicPartition  # type: ignore[import-untyped]
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from jobs.records import COLUMNS, HEADERS, Range, records
from winnow.errors import FailedPrecondition, InvalidArgument, Unavailable
from winnow.kafka import REQUEST_S, connection, millis, opened, translated

FORMAT = "kafka-python"
OPTIONS = frozenset(
    {
        "kafka.bootstrap.servers",
        "subscribe",
        "startingoffsets",
        "maxoffsetspertrigger",
        "failondataloss",
        "includeheaders",
    }
)
EARLIEST, LATEST = "earliest", "latest"

Offsets = dict[str, dict[str, int]]
"""Topic to partition to the offset of the next record: the form of the native source."""


class KafkaSource(DataSource):
    """`spark.dataSource.register(KafkaSource)`, then `readStream.format(FORMAT)`."""

    def __init__(self, options: MutableMapping[str, str]) -> None:
        """InvalidArgument for an option that would be ignored: nothing is silently done otherwise."""
        super().__init__(options)
        unknown = {name.lower() for name in options} - OPTIONS
        if unknown:
            raise InvalidArgument(f"the Python Kafka source does not know {', '.join(sorted(unknown))}")

    @classmethod
    def name(cls) -> str:
        return FORMAT

    def schema(self) -> str:
        return f"{COLUMNS}, {HEADERS}" if self._headers else COLUMNS

    @property
    def _headers(self) -> bool:
        return self.options.get("includeHeaders", "false").lower() == "true"

    def streamReader(self, schema: StructType) -> KafkaReader:  # noqa: N802 -- Spark's name
        limit = int(self.options.get("maxOffsetsPerTrigger", "0"))
        return KafkaReader(
            bootstrap=required(self.options, "kafka.bootstrap.servers"),
            topics=tuple(required(self.options, "subscribe").split(",")),
            starting=self.options.get("startingOffsets", LATEST),
            at_most=limit,
            fail_on_loss=self.options.get("failOnDataLoss", "true").lower() == "true",
            headers=self._headers,
        )


def required(options: Mapping[str, str], name: str) -> str:
    value = options.get(name, "")
    if not value:
        raise InvalidArgument(f"the Kafka source needs the option {name}")
    return value


class KafkaReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Plans batches in the driver and reads ranges in the workers; what it holds travels, its connection does not."""

    def __init__(
        self,
        bootstrap: str,
        topics: tuple[str, ...],
        starting: str,
        at_most: int,
        fail_on_loss: bool,
        headers: bool,
    ) -> None:
        self.bootstrap = bootstrap
        self.topics = topics
        self.starting = starting
        self.at_most = at_most
        self.fail_on_loss = fail_on_loss
        self.headers = headers
        self.until: Offsets | None = None  # of a query that ends when it has read what was there

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "admin"}

    @cached_property
    def admin(self) -> Any:
        return opened(KafkaAdminClient, **connection(self.bootstrap, "winnow-spark-driver"))

    # ------------------------------------------------------------------------------------------ offsets

    def initialOffset(self) -> Offsets:  # noqa: N802
        if self.starting in (EARLIEST, LATEST):
            return self._ask(self.starting)
        given: Offsets = json.loads(self.starting)
        edges = {EARLIEST: self._ask(EARLIEST), LATEST: self._ask(LATEST)}
        special = {-2: EARLIEST, -1: LATEST}  # as in the native source
        return {
            topic: {n: offset if offset >= 0 else edges[special[offset]][topic][n] for n, offset in partitions.items()}
            for topic, partitions in given.items()
        }

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        return ReadMaxRows(self.at_most) if self.at_most else ReadAllAvailable()

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        self.until = self._ask(LATEST)

    def latestOffset(self, start: Offsets, limit: ReadLimit) -> Offsets:  # noqa: N802
        """Where the next batch ends: all there is, or a share of `limit` for each partition by its backlog."""
        ends = self.until or self._ask(LATEST)
        begins = begun(start, ends)
        if not isinstance(limit, ReadMaxRows):
            return ends
        backlog = {(t, n): ends[t][n] - begins[t][n] for t in ends for n in ends[t]}
        total = sum(max(rows, 0) for rows in backlog.values())
        if total <= limit.max_rows:
            return ends
        return {
            topic: {n: begins[topic][n] + share(max(backlog[topic, n], 0), limit.max_rows, total) for n in ends[topic]}
            for topic in ends
        }

    def reportLatestOffset(self) -> Offsets:  # noqa: N802
        """For the progress report: lag is this less what was read."""
        return self._ask(LATEST)

    def partitions(self, start: Offsets, end: Offsets) -> list[InputPartition]:
        """FailedPrecondition when records of the range were deleted by retention, or the topic was made anew."""
        begins = begun(start, end)
        earliest = self._ask(EARLIEST)
        ranges: list[InputPartition] = []
        for topic, numbers in end.items():
            for number, last in numbers.items():
                first, kept = begins[topic][number], earliest.get(topic, {}).get(number, 0)
                lost = f"{topic}/{number}: records {first} … {min(kept, last) - 1} are gone"
                if self.fail_on_loss and (last < first or kept > first):
                    raise FailedPrecondition(lost if kept > first else f"{topic}/{number} ends before {first}")
                if max(first, kept) < last:
                    ranges.append(Range(topic, int(number), max(first, kept), last))
        return ranges

    def stop(self) -> None:
        if "admin" in self.__dict__:
            self.admin.close()

    def _ask(self, edge: str) -> Offsets:
        """The earliest or latest offset of every partition that the topics have now."""
        with translated(f"offsets at {self.bootstrap}"):
            known = self.admin.describe_topics(list(self.topics))
            missing = [topic["name"] for topic in known if topic["error_code"]]
            if missing:
                raise Unavailable(f"Kafka does not hold {', '.join(missing)} (yet)")
            spec = OffsetSpec.EARLIEST if edge == EARLIEST else OffsetSpec.LATEST
            places = [TopicPartition(t["name"], p["partition_index"]) for t in known for p in t["partitions"]]
            found = self.admin.list_partition_offsets(dict.fromkeys(places, spec), timeout_ms=millis(REQUEST_S))
        offsets: Offsets = {topic: {} for topic in self.topics}
        for place, one in found.items():
            offsets[place.topic][str(place.partition)] = one.offset
        return offsets

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        assert isinstance(partition, Range)
        return records(self.bootstrap, partition, headers=self.headers)


def begun(start: Offsets, ends: Offsets) -> Offsets:
    """`start` with the partitions that came since, which are read from their beginning."""
    return {topic: {n: start.get(topic, {}).get(n, 0) for n in numbers} for topic, numbers in ends.items()}


def share(backlog: int, at_most: int, total: int) -> int:
    """A partition's part of a limited batch; one at least where something waits, so that no partition starves."""
    return min(backlog, max(1, backlog * at_most // total)) if backlog else 0
