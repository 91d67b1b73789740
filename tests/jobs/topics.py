"""Topics of a broker: made, made larger, and filled."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from kafka import KafkaAdminClient, KafkaProducer  # type: ignore[import-untyped]

SEND_S = 20.0


def create(bootstrap: str, topic: str, partitions: int) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}}, timeout_ms=5_000)


def grow(bootstrap: str, topic: str, partitions: int) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_partitions({topic: partitions}, timeout_ms=5_000)


def send(bootstrap: str, topic: str, messages: Iterable[tuple[bytes, bytes]]) -> None:
    """(key, value) each, all acknowledged when it returns."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)) as producer:
        sent = [producer.send(topic, key=key, value=value) for key, value in messages]
        for one in sent:
            one.get(timeout=SEND_S)
