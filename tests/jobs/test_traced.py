"""The last hop of a trace: Spark's batch goes on from what the records of Kafka carry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.queries import QUERIES, Settings, start
from parts.kafka import kafka
from parts.program import HOST, free_ports, running
from parts.redis import redis
from tests.jobs.topics import create
from tests.otlp import Collector, collecting
from winnow.kafka import Producer
from winnow.serving.trace_settings import TraceSettings, recorded
from winnow.topics import Record
from winnow.tracing import MOST, TraceContext, arrive, carried, carrying

pytestmark = [pytest.mark.platform, pytest.mark.timeout(400)]

TOPIC = "winnow.events"
CONSUMER = 5  # a span's kind
BATCH_S = 200.0  # for the first batch of a query on a busy machine


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one, recorded(TraceSettings(otlp_endpoint=one.endpoint, trace_sample=0.0), "tests"):
        yield one


def event(number: int) -> bytes:
    told = {"schema": 1, "log_position": number, "event_id": f"e{number}", "type": "click", "item_id": "i1"}
    return json.dumps({**told, "user_id": "u1", "occurred_at": "2026-01-31T12:00:00.000000Z"}).encode()


def asked(number: int) -> TraceContext | None:
    """Where a request stands that its caller sampled."""
    with arrive("POST /v1/events", f"00-{number:032x}-{number:016x}-01"):
        return carried()


def test_a_batch_of_spark_goes_on_in_the_traces_of_its_records(
    spark: SparkSession, collector: Collector, tmp_path: Path
) -> None:
    kafka_port, redis_port = free_ports(2)
    bootstrap = f"{HOST}:{kafka_port}"
    settings = Settings(bootstrap, str(tmp_path / "spark"), f"redis://{HOST}:{redis_port}/0", every_s=0.2)
    places = [asked(number) for number in range(1, 31)]
    unsampled = TraceContext("f" * 32, "f" * 16, sampled=False)
    with running(kafka(tmp_path / "kafka", kafka_port), redis(tmp_path / "redis", redis_port)):
        create(bootstrap, TOPIC, 2)
        with closing(Producer(bootstrap, "tests")) as producer:
            traced = [Record(b"u1", event(number), carrying(place)) for number, place in enumerate(places)]
            plain = [Record(b"u2", event(100)), Record(b"u2", event(101), carrying(unsampled))]
            producer.produce(TOPIC, [traced[0], *traced, *plain])
        query = start(spark, QUERIES[0], settings)
        try:
            collector.wait(lambda: len([one for one in collector.spans if one.kind == CONSUMER]) >= MOST, BATCH_S)
        finally:
            query.stop()
    consumed = [one for one in collector.spans if one.name == f"process {TOPIC}"]
    sent = {one.span_id: one for one in collector.spans if one.name == f"send {TOPIC}"}
    first = [one for one in consumed if int(one.trace_id, 16) == 1]
    assert len(first) == 1, "two records of one request are one span of one batch"
    assert first[0].attributes["winnow.query"] == "log"
    assert sent[first[0].parent_id].trace_id == first[0].trace_id
    assert len(consumed) == MOST, "of a batch, so many requests at most"
    assert not any(one.failed for one in consumed)
    assert "f" * 32 not in {one.trace_id for one in collector.spans}
