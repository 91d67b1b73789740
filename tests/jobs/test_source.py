"""The streaming source over a real broker: offsets, limits, topics that grow, records that are gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaAdminClient  # type: ignore[import-untyped]
from kafka.structs import TopicPartition  # type: ignore[import-untyped]
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxRows

from jobs.records import Range
from jobs.source import KafkaReader, KafkaSource
from parts.kafka import kafka
from parts.program import HOST, free_ports, running
from tests.jobs.topics import create, grow, send
from winnow.errors import FailedPrecondition, InvalidArgument, Unavailable

pytestmark = pytest.mark.platform


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    [port] = free_ports(1)
    with running(kafka(tmp_path_factory.mktemp("broker"), port)):
        yield f"{HOST}:{port}"


@pytest.fixture
def topic(bootstrap: str, request: pytest.FixtureRequest) -> str:
    name = str(request.node.name)[:60].replace("[", ".").replace("]", "")
    create(bootstrap, name, 3)
    return name


OPEN: list[KafkaReader] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What a test opened goes with it: a client left behind asks for its broker as long as the process lives."""
    yield
    while OPEN:
        OPEN.pop().stop()


def reader(bootstrap: str, topic: str, **options: str) -> KafkaReader:
    given = {"kafka.bootstrap.servers": bootstrap, "subscribe": topic, "startingOffsets": "earliest", **options}
    source = KafkaSource(given)
    OPEN.append(source.streamReader(source.schema()))  # type: ignore[arg-type]
    return OPEN[-1]


def fill(bootstrap: str, topic: str, n: int, first: int = 0) -> None:
    send(bootstrap, topic, [(b"k%d" % number, b"%d" % number) for number in range(first, first + n)])


def read(source: KafkaReader, start: dict[str, dict[str, int]], end: dict[str, dict[str, int]]) -> list[int]:
    found = []
    for one in source.partitions(start, end):
        assert isinstance(one, Range)
        rows = [row for batch in source.read(one) for row in batch.to_pylist()]
        assert [row["offset"] for row in rows] == list(range(one.start, one.end))
        assert {row["partition"] for row in rows} == {one.partition}
        found += [int(row["value"]) for row in rows]
    return found


def test_batches_of_limited_size_bring_every_record_once(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 1_000)
    source = reader(bootstrap, topic, maxOffsetsPerTrigger="300")
    assert source.getDefaultReadLimit() == ReadMaxRows(300)
    start, found = source.initialOffset(), []
    while (end := source.latestOffset(start, ReadMaxRows(300))) != start:
        part = read(source, start, end)
        assert 1 <= len(part) <= 303
        found += part
        start = end
    assert sorted(found) == list(range(1_000))


def test_a_partition_that_is_added_while_the_query_runs_is_read_from_its_beginning(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 100)
    source = reader(bootstrap, topic)
    middle = source.latestOffset(source.initialOffset(), ReadAllAvailable())
    grow(bootstrap, topic, 6)
    fill(bootstrap, topic, 400, first=100)
    end = source.latestOffset(middle, ReadAllAvailable())
    assert len(middle[topic]) == 3
    assert len(end[topic]) == 6
    assert sum(end[topic][n] > 0 for n in ("3", "4", "5")) > 0
    assert sorted(read(source, middle, end)) == list(range(100, 500))


def test_a_query_that_ends_with_what_is_there_does_not_read_on(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 50)
    source = reader(bootstrap, topic)
    source.prepareForTriggerAvailableNow()
    fill(bootstrap, topic, 50, first=50)
    end = source.latestOffset(source.initialOffset(), ReadAllAvailable())
    assert sum(end[topic].values()) == 50
    assert sum(source.reportLatestOffset()[topic].values()) == 100


def test_starting_offsets_may_be_named(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 60)
    ends = reader(bootstrap, topic, startingOffsets="latest").initialOffset()
    assert sum(ends[topic].values()) == 60
    named = reader(bootstrap, topic, startingOffsets=f'{{"{topic}": {{"0": 3, "1": -2, "2": -1}}}}').initialOffset()
    assert named == {topic: {"0": 3, "1": 0, "2": ends[topic]["2"]}}


def test_records_that_retention_deleted_are_an_error_unless_told_otherwise(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 300)
    source = reader(bootstrap, topic)
    start = source.initialOffset()
    end = source.latestOffset(start, ReadAllAvailable())
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.delete_records({TopicPartition(topic, 1): 5}, timeout_ms=5_000)
    with pytest.raises(FailedPrecondition, match="/1: records 0 … 4 are gone"):
        source.partitions(start, end)
    lenient = reader(bootstrap, topic, failOnDataLoss="false")
    assert len(read(lenient, start, end)) == 295


def test_a_topic_that_was_made_anew_is_an_error(bootstrap: str, topic: str) -> None:
    fill(bootstrap, topic, 5)
    source = reader(bootstrap, topic)
    ahead = {topic: {"0": 1_000, "1": 0, "2": 0}}
    with pytest.raises(FailedPrecondition, match="/0 ends before 1000"):
        source.partitions(ahead, source.latestOffset(ahead, ReadAllAvailable()))


def test_a_missing_topic_and_a_missing_broker_are_outages(bootstrap: str) -> None:
    with pytest.raises(Unavailable, match="nowhere"):
        reader(bootstrap, "nowhere").initialOffset()
    [port] = free_ports(1)
    with pytest.raises(Unavailable, match="Kafka, offsets at"):
        reader(f"{HOST}:{port}", "nowhere").initialOffset()


def test_an_option_that_would_be_ignored_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="minpartitions"):
        KafkaSource({"kafka.bootstrap.servers": "b:1", "subscribe": "t", "minPartitions": "4"})
