"""Kafka for everything here that declares topics, produces or consumes: the one place that imports a client library.

The client's errors become the platform's, every wait has a time-out, and what waits to be sent is bounded. Everything
blocks: callers use a thread of their own. Knows neither events nor decisions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec  # type: ignore[import-untyped]
from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata, TopicPartition  # type: ignore[import-untyped]

from winnow.errors import FailedPrecondition, PayloadTooLarge, Unavailable
from winnow.kafka_security import KafkaSecurity
from winnow.kafka_sockets import DIRECT
from winnow.serving.backends import KAFKA, asked
from winnow.topics import MAX_MESSAGE_BYTES, Message, Offsets, Placed, Record, Topic
from winnow.tracing import TRACEPARENT, TRACESTATE, Kind, Shared, carried_by, carrying

CONNECT_S = 3.0
REQUEST_S = 5.0
DELIVERY_S = 10.0  # from handing a record over until its acknowledgement
IN_FLIGHT_BYTES = 8 * 2**20  # of one `produce`, not acknowledged yet
SESSION_S = 10.0  # without a sign of life a consumer's partitions go to another
PROCESS_S = 300.0  # between two polls of a consumer
CLOSE_S = 1.0
STALL_S = 30.0  # without a message, although there must be more
RETRY_S = 2.0  # at most between two attempts to connect
MEASURED = ("connect", "produce", "commit", "administer")

TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
FORBIDDEN = (
    kafka_errors.AuthorizationError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.KafkaConfigurationError,
)
TOPIC_EXISTS = kafka_errors.TopicAlreadyExistsError.errno


class Producer:
    """An idempotent producer: a record counts once all in-sync replicas have it, and the client's own retries neither
    double nor reorder. One thread at a time."""

    def __init__(self, bootstrap: str, name: str, *, delivery_s: float = DELIVERY_S) -> None:
        """Unavailable when no broker answers within `CONNECT_S`."""
        self._delivery_s = delivery_s
        with translated("connect"):
            self._client = opened(
                KafkaProducer,
                **connection(bootstrap, name, request_s=min(REQUEST_S, delivery_s / 2)),
                metrics_enabled=False,
                acks="all",
                enable_idempotence=True,
                delivery_timeout_ms=millis(delivery_s),
                max_block_ms=millis(min(REQUEST_S, delivery_s)),
                max_request_size=MAX_MESSAGE_BYTES,
                batch_size=256 * 1024,
                allow_auto_create_topics=False,
            )

    def produce(self, topic: str, records: Iterable[Record]) -> list[Placed]:
        """Send all, return once all are acknowledged.

        Unavailable: not all are known to be; any of them may have been written, in their order. PayloadTooLarge: one
        is larger than the topic takes. A record that carries a trace goes on in it as sent from here.
        """
        placed: list[Placed] = []
        sent: list[Any] = []
        in_flight = 0
        with translated("produce"), Shared(f"send {topic}", Kind.PRODUCER, on_topic(topic, "send")) as traces:
            for record in records:
                in_flight += len(record.key) + len(record.value)
                if in_flight > IN_FLIGHT_BYTES and sent:
                    placed += self._acknowledged(sent)
                    sent, in_flight = [], len(record.key) + len(record.value)
                headers = told(record, traces) if record.headers else []
                sent.append(self._client.send(topic, key=record.key, value=record.value, headers=headers))
            placed += self._acknowledged(sent)
        return placed

    def close(self) -> None:
        """Let go; what is not acknowledged by now is given up."""
        with translated("close"):
            try:
                self._client.close(timeout=CLOSE_S)
            except kafka_errors.KafkaError:  # the library (3.0) then leaves its thread running, with what it holds
                self._client._sender.force_close()
                self._client._sender.join(CLOSE_S)
                self._client._closed = True
                raise

    def _acknowledged(self, sent: Sequence[Any]) -> list[Placed]:
        metadata = [future.get(timeout=self._delivery_s + 1.0) for future in sent]
        return [Placed(one.partition, one.offset) for one in metadata]


def told(record: Record, traces: Shared) -> list[tuple[str, bytes]]:
    """A record's headers; the trace it carries goes through `traces`."""
    place = traces.join(carried_by(record.headers))
    if place is None:
        return list(record.headers)
    return [*(one for one in record.headers if one[0] not in (TRACEPARENT, TRACESTATE)), *carrying(place)]


def on_topic(topic: str, operation: str) -> dict[str, str]:
    """What a span says of records, in OpenTelemetry's words."""
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.type": operation,
    }


class Consumer:
    """One member of a group, known by a fixed name: when it is killed, its successor of the same name takes over at
    once. Nothing counts as read before `commit`. One thread at a time."""

    def __init__(self, bootstrap: str, topics: Sequence[str], group: str, instance: str, *, at_most: int = 500) -> None:
        with translated("connect"):
            self._client = opened(
                KafkaConsumer,
                *topics,
                **connection(bootstrap, instance),
                metrics_enabled=False,
                group_id=group,
                group_instance_id=instance,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                isolation_level="read_committed",
                session_timeout_ms=millis(SESSION_S),
                heartbeat_interval_ms=millis(SESSION_S / 4),
                max_poll_interval_ms=millis(PROCESS_S),
                max_poll_records=at_most,
                max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            )

    def poll(self, within_s: float) -> list[Message]:
        """What has come, at most `at_most` messages; empty when nothing came within `within_s`."""
        with translated("poll"):
            found = self._client.poll(timeout_ms=millis(within_s))
        return [message_of(one) for batch in found.values() for one in batch]

    def rewind(self, firsts: Offsets) -> None:
        """Give what begins at these offsets again, where it is still this member's to read."""
        with translated("rewind"):
            for place in self._client.assignment() & {TopicPartition(*one) for one in firsts}:
                self._client.seek(place, firsts[place.topic, place.partition])

    def commit(self, done: Offsets) -> None:
        """Say that everything up to these offsets was processed."""
        offsets = {TopicPartition(*place): OffsetAndMetadata(last + 1, "", -1) for place, last in done.items()}
        with translated("commit"):
            self._client.commit(offsets, timeout_ms=millis(DELIVERY_S))

    def close(self) -> None:
        with translated("close"):
            self._client.close(autocommit=False, timeout_ms=millis(CLOSE_S))


def messages(bootstrap: str, topic: Topic, ends: Mapping[int, int]) -> Iterator[Message]:
    """What lies in a topic before these offsets by partition (`end_offsets`), each partition in its order. No group knows
    of it. Unavailable when nothing comes for `STALL_S`."""
    left = {TopicPartition(topic.name, number): end for number, end in ends.items() if end > 0}
    if not left:
        return
    with translated("read"):
        client = opened(
            KafkaConsumer,
            **connection(bootstrap, "winnow-reader"),
            metrics_enabled=False,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        try:
            client.assign(list(left))
            client.seek_to_beginning(*left)
            until = time.monotonic() + STALL_S
            while left := {place: end for place, end in left.items() if (client.position(place) or 0) < end}:
                if time.monotonic() > until:
                    raise Unavailable(f"Kafka, read: nothing came for {STALL_S:g} s; {len(left)} partitions have more")
                for one in [one for batch in client.poll(timeout_ms=500).values() for one in batch]:
                    if one.offset < ends[one.partition]:
                        yield message_of(one)
                        until = time.monotonic() + STALL_S
        finally:
            client.close(autocommit=False, timeout_ms=millis(CLOSE_S))


def message_of(one: Any) -> Message:
    return Message(one.topic, one.partition, one.offset, one.key or b"", one.value or b"", tuple(one.headers))


def create(bootstrap: str, topics: Sequence[Topic], *, replicas: int = 1) -> None:
    """Make those of `topics` that do not exist; what exists stays as it is."""
    wanted = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": replicas,
            "configs": topic.options(replicas),
        }
        for topic in topics
    }
    with admin(bootstrap) as client:
        made = client.create_topics(wanted, timeout_ms=millis(REQUEST_S), raise_errors=False)
        for topic in made["topics"]:
            if topic["error_code"] not in (0, TOPIC_EXISTS):
                raise kafka_errors.for_code(topic["error_code"])(f"{topic['name']}: {topic['error_message']}")


def end_offsets(bootstrap: str, topic: Topic) -> dict[int, int]:
    """The offset that the next record of each partition gets; partitions of a topic that does not exist are absent."""
    with admin(bootstrap) as client:
        known = {found["name"]: found for found in client.describe_topics([topic.name]) if not found["error_code"]}
        if topic.name not in known:
            return {}
        numbers = [partition["partition_index"] for partition in known[topic.name]["partitions"]]
        asked = {TopicPartition(topic.name, number): OffsetSpec.LATEST for number in numbers}
        found = client.list_partition_offsets(asked, timeout_ms=millis(REQUEST_S))
        return {place.partition: one.offset for place, one in found.items()}


def trim(bootstrap: str, topic: Topic, before: Mapping[int, int]) -> None:
    """Delete what lies before these offsets by partition, as retention would in time."""
    places = {TopicPartition(topic.name, number): offset for number, offset in before.items() if offset > 0}
    if places:
        with admin(bootstrap) as client:
            client.delete_records(places, timeout_ms=millis(REQUEST_S))


@contextmanager
def admin(bootstrap: str) -> Iterator[Any]:
    with translated("administer"):
        client = opened(KafkaAdminClient, **connection(bootstrap, "winnow-admin"))
        try:
            yield client
        finally:
            client.close()


def opened(kind: Callable[..., Any], *topics: str, **options: Any) -> Any:
    """A client of this kind; one that cannot connect takes its thread along, which the library (3.0) leaves running."""
    below: list[Any] = []

    def connections(**more: Any) -> Any:
        below.append(KafkaNetClient(**more))
        return below[-1]

    try:
        return kind(*topics, kafka_client=connections, **options)
    except BaseException:
        for one in below:
            one._net.stop(millis(CLOSE_S))
            one.close()
        raise


def connection(bootstrap: str, name: str, *, request_s: float = REQUEST_S) -> dict[str, Any]:
    """What all clients agree on."""
    return {
        "bootstrap_servers": bootstrap.split(","),
        "client_id": name,
        "request_timeout_ms": millis(request_s),
        "bootstrap_timeout_ms": millis(CONNECT_S),
        "reconnect_backoff_max_ms": millis(RETRY_S),
        "proxy_url": DIRECT,
        **KafkaSecurity().options(),
    }


def millis(seconds: float) -> int:
    return round(seconds * 1000)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """The client's errors as the platform's; what is no wait for others' records is measured."""
    with asked(KAFKA, doing) if doing in MEASURED else nullcontext(), meant(doing):
        yield


@contextmanager
def meant(doing: str) -> Iterator[None]:
    try:
        yield
    except TOO_LARGE as wrong:
        raise PayloadTooLarge(f"Kafka, {doing}: {wrong}") from wrong
    except FORBIDDEN as wrong:
        raise FailedPrecondition(f"Kafka, {doing}: {wrong}") from wrong
    except (kafka_errors.KafkaError, OSError) as away:
        raise Unavailable(f"Kafka, {doing}: {away or type(away).__name__}") from away
