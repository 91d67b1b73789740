"""A topic whose oldest records are deleted keeps the others, and their offsets."""

from __future__ import annotations

import pytest

from tests.brokers import Broker
from winnow.kafka import Producer, create, end_offsets, messages, trim
from winnow.topics import Record, Topic

pytestmark = [pytest.mark.platform, pytest.mark.timeout(60)]

TOPIC = Topic("trimmed", 1, 3_600_000)


def test_what_lies_before_an_offset_is_deleted(broker: Broker) -> None:
    create(broker.bootstrap, [TOPIC])
    producer = Producer(broker.bootstrap, "test")
    producer.produce(TOPIC.name, [Record(b"", str(n).encode()) for n in range(5)])
    producer.close()
    trim(broker.bootstrap, TOPIC, {})
    assert len(list(messages(broker.bootstrap, TOPIC, {0: 5}))) == 5
    trim(broker.bootstrap, TOPIC, {0: 3})
    assert [(one.offset, one.value) for one in messages(broker.bootstrap, TOPIC, {0: 5})] == [(3, b"3"), (4, b"4")]
    assert end_offsets(broker.bootstrap, TOPIC) == {0: 5}
