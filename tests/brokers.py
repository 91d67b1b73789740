"""A broker for tests, and messages put into it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer  # type: ignore[import-untyped]

from parts.program import HOST, Program
from winnow.errors import Unavailable

SEND_S = 20.0


def broker(folder: Path, port: int) -> Program:
    """A single node that speaks Kafka's protocol."""
    command = str(Path(sys.executable).parent / "noida-db")
    words = (command, "start", "--only", "kafka", "--kafka-port", str(port), "--data-dir", str(folder / "data"))
    return Program("kafka", words, folder, lambda: answers(f"{HOST}:{port}"), ready_s=30.0, stop_s=30.0)


def answers(bootstrap: str) -> str:
    try:
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=1_000)) as admin:
            admin.list_topics()
    except (OSError, Unavailable) as away:
        return str(away)
    except Exception as away:  # the client's own errors, whichever
        return type(away).__name__
    return ""


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
