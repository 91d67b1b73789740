"""A consumer loses nothing, is stopped by nothing that lies in a topic, and says why it passed a message over."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from tests.brokers import Broker, eventually, messages
from tests.events import click
from winnow.canonical import event_row
from winnow.consume import Consumption, bury
from winnow.errors import InvalidArgument, Unavailable
from winnow.kafka import Producer, create
from winnow.messages import SCHEMA, LoggedEvent, event_of, event_value
from winnow.topics import DEAD_LETTERS, HOUR_MS, Message, Record, Topic

pytestmark = [pytest.mark.platform, pytest.mark.timeout(120)]

PEOPLE = 5
Effect = Callable[[Sequence[LoggedEvent]], None]


def read(value: bytes) -> LoggedEvent:
    return event_of(value, datetime.now(UTC))


def value_of(n: int) -> bytes:
    return event_value(event_row(click(f"x{n}", user_id=f"u{n % PEOPLE}")), n + 1)


def records(first: int, number: int) -> list[Record]:
    return [Record(b"u%d" % (n % PEOPLE), value_of(n)) for n in range(first, first + number)]


def send(broker: Broker, topic: Topic, sent: Sequence[Record]) -> None:
    create(broker.bootstrap, [topic])
    producer = Producer(broker.bootstrap, "test")
    producer.produce(topic.name, sent)
    producer.close()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> Topic:
    """A topic of this test's own."""
    return Topic(f"test.{request.node.name[:60]}", 3, HOUR_MS)


@contextmanager
def consuming(broker: Broker, topic: Topic, effect: Effect, **more: int) -> Iterator[None]:
    stopping = threading.Event()
    one = Consumption(broker.bootstrap, topic, f"group of {topic.name}", read, effect, **more)  # type: ignore[arg-type]
    thread = threading.Thread(target=one.run, args=(stopping,))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(30)
        assert not thread.is_alive()


def numbers(seen: Sequence[LoggedEvent]) -> list[int]:
    """Each where it occurs first."""
    return list(dict.fromkeys(int(one.event.event_id[1:]) for one in seen))


def complete_and_in_order(found: Sequence[int], number: int) -> bool:
    lanes = [[n for n in found if n % PEOPLE == person] for person in range(PEOPLE)]
    return sorted(found) == list(range(number)) and all(lane == sorted(lane) for lane in lanes)


def letters(broker: Broker, topic: Topic) -> dict[tuple[int, int], tuple[Message, dict[str, str]]]:
    """Dead letters from a topic and their headers, by partition and offset."""
    found = {}
    for message in messages(broker.bootstrap, DEAD_LETTERS):
        told = {name: value.decode() for name, value in message.headers}
        if told["topic"] == topic.name:
            found[int(told["partition"]), int(told["offset"])] = (message, told)
    return found


def test_what_cannot_be_read_is_buried_with_its_reason_and_the_rest_goes_on(broker: Broker, topic: Topic) -> None:
    good = orjson.loads(value_of(0))
    poison = {
        "not-json": b"\xff\x00 no json",
        "newer-schema": orjson.dumps(good | {"schema": SCHEMA + 1}),
        "no-schema": b"{}",
        "unknown-type": orjson.dumps(good | {"type": "teleport"}),
        "missing-id": orjson.dumps(good | {"event_id": ""}),
        "future-time": orjson.dumps(good | {"occurred_at": "2199-01-01T00:00:00Z"}),
        "invalid": orjson.dumps(good | {"quantity": -1}),
    }
    sent = records(0, 100)
    for n, value in enumerate(poison.values()):
        sent.insert(n * 13, Record(b"u1", value, (("from", b"a test"),)))
    send(broker, topic, sent)
    seen: list[LoggedEvent] = []
    with consuming(broker, topic, seen.extend):
        eventually(lambda: len(seen) >= 100)
        eventually(lambda: len(letters(broker, topic)) == len(poison))
    assert complete_and_in_order(numbers(seen), 100)
    buried = letters(broker, topic).values()
    assert {told["reason"]: message.value for message, told in buried} == poison, "as they were"
    assert {message.key for message, _ in buried} == {b"u1"}
    for _, told in buried:
        assert told["from"] == "a test"
        assert told["detail"]
        assert told["group"] == f"group of {topic.name}"


def test_nothing_is_given_again_once_it_is_done_and_nothing_is_left_out(broker: Broker, topic: Topic) -> None:
    seen: list[LoggedEvent] = []
    for n in range(3):
        send(broker, topic, [*records(n * 40, 40), Record(b"u1", b"poison")])
        with consuming(broker, topic, seen.extend):
            eventually(lambda wanted=(n + 1) * 40: len(seen) >= wanted)  # type: ignore[misc]
            eventually(lambda wanted=n + 1: len(letters(broker, topic)) == wanted)  # type: ignore[misc]
    assert len(seen) == 120, "none twice"
    assert complete_and_in_order(numbers(seen), 120)
    found = [one for one in messages(broker.bootstrap, DEAD_LETTERS) if ("topic", topic.name.encode()) in one.headers]
    assert len(found) == 3


def test_while_the_effect_is_away_messages_wait_and_none_is_buried(broker: Broker, topic: Topic) -> None:
    send(broker, topic, records(0, 90))
    seen: list[LoggedEvent] = []
    attempts = 0

    def effect(words: Sequence[LoggedEvent]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts in (2, 3):
            raise Unavailable("the store is away")
        seen.extend(words)

    with consuming(broker, topic, effect, at_most=40):
        eventually(lambda: len(seen) >= 90)
    assert attempts > 4
    assert complete_and_in_order(numbers(seen), 90)
    assert len(seen) == 90
    assert letters(broker, topic) == {}


def test_a_word_that_the_effect_refuses_is_buried_alone(broker: Broker, topic: Topic) -> None:
    send(broker, topic, records(0, 60))
    seen: list[LoggedEvent] = []

    def effect(words: Sequence[LoggedEvent]) -> None:
        for word in words:
            if word.event.event_id in ("x7", "x8"):
                raise InvalidArgument("no such item", field="item_id")
            seen.append(word)

    with consuming(broker, topic, effect):
        eventually(lambda: len(letters(broker, topic)) == 2)
    assert set(numbers(seen)) == set(range(60)) - {7, 8}
    assert {(told["reason"], told["detail"]) for _, told in letters(broker, topic).values()} == {
        ("refused", "no such item")
    }


def test_a_message_too_large_to_bury_leaves_its_reason_and_its_place(broker: Broker, topic: Topic) -> None:
    """The dead-letter topic takes more than any other, unless an operator has said otherwise."""
    create(broker.bootstrap, [DEAD_LETTERS])
    producer = Producer(broker.bootstrap, "test")
    told = (("topic", topic.name.encode()), ("partition", b"0"))
    small = Record(b"a", b"small", (*told, ("offset", b"4")))
    large = Record(b"b", b"x" * (DEAD_LETTERS.max_message_bytes + 1), (*told, ("offset", b"5")))
    bury(producer, [small, large])
    producer.close()
    assert [message.value for message, _ in letters(broker, topic).values()] == [b"small", b""]


KILLED = """
import os, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from winnow.consume import Consumption, bury
from winnow.messages import event_of
from winnow.topics import HOUR_MS, Topic

bootstrap, name, written, number = sys.argv[1:5]
batches = 0

def effect(words):
    global batches
    batches += 1
    with Path(written).open("a") as file:
        for word in words:
            file.write(word.event.event_id + "\\n")
    if batches == 3 or len(set(Path(written).read_text().split())) == int(number):
        os.kill(os.getpid(), 9)  # between the effect and its commit

read = lambda value: event_of(value, datetime.now(UTC))
one = Consumption(bootstrap, Topic(name, 3, HOUR_MS), "killed", read, effect, at_most=30)
one.run(threading.Event())
"""


@pytest.mark.timeout(900)
def test_a_consumer_killed_between_effect_and_commit_repeats_and_never_skips(
    broker: Broker, topic: Topic, tmp_path: Path
) -> None:
    send(broker, topic, records(0, 200))
    written = tmp_path / "written"
    rounds = 0
    while rounds < 8 and (not written.exists() or len(set(written.read_text().split())) < 200):
        told = [broker.bootstrap, topic.name, str(written), "200"]
        ran = subprocess.run([sys.executable, "-c", KILLED, *told], timeout=180)
        assert ran.returncode == -9
        rounds += 1
    lines = written.read_text().split()
    print(f"{rounds} kills: {len(lines)} effects for 200 messages")
    assert rounds >= 3
    assert complete_and_in_order(list(dict.fromkeys(int(line[1:]) for line in lines)), 200)
    assert 200 < len(lines) <= 200 + rounds * 30, "only what was not committed is repeated"


def test_a_broker_that_freezes_and_restarts_holds_the_consumer_up_and_loses_it_nothing(
    own_broker: Broker, topic: Topic
) -> None:
    send(own_broker, topic, [*records(0, 50), Record(b"u1", b"poison")])
    seen: list[LoggedEvent] = []
    with consuming(own_broker, topic, seen.extend):
        eventually(lambda: len(seen) >= 50)
        own_broker.running.freeze()
        time.sleep(4)
        own_broker.running.thaw()
        send(own_broker, topic, records(50, 50))
        eventually(lambda: len(numbers(seen)) == 100)
        own_broker.running.stop()
        time.sleep(2)
        own_broker.again()
        send(own_broker, topic, [*records(100, 50), Record(b"u1", b"poison")])
        eventually(lambda: len(numbers(seen)) == 150, 40)
        eventually(lambda: len(letters(own_broker, topic)) == 2)
    assert complete_and_in_order(numbers(seen), 150)
