"""Reads a topic for ever: each message is read, has its effect, and counts as done only then.

A message that cannot be read, or whose effect is refused for what it says, goes to the dead-letter topic with the reason
and its place, so that it holds up nothing behind it. While the effect, or the broker, is away the same messages are
tried again; a crash between the effect and the commit gives them again too: effects must be the same when they happen
twice. Knows nothing of what the messages say.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Generic, TypeVar

from winnow.errors import InvalidArgument, NotFound, PayloadTooLarge, WinnowError
from winnow.kafka import Consumer, Producer, create, on_topic
from winnow.poison import Poison
from winnow.serving.telemetry import CONSUMED
from winnow.serving.telemetry import DEAD_LETTERS as BURIED
from winnow.topics import DEAD_LETTERS, Message, Record, Topic
from winnow.tracing import Kind, Shared, carried_by

POLL_S = 0.5
RETRY_S = 1.0
AT_MOST = 500  # messages of one effect
MAX_DETAIL = 500  # characters; a detail may quote the message

ITS_FAULT = (Poison, InvalidArgument, NotFound, PayloadTooLarge)
"""Errors that say the message is wrong; any other is the platform's trouble, and passes."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that is buried, and why."""

    message: Message
    reason: str
    detail: str

    def record(self, group: str) -> Record:
        """The message as it was, key and value; (topic, partition, offset) tells one that was buried twice."""
        place = self.message
        told = {
            "reason": self.reason,
            "detail": self.detail[:MAX_DETAIL],
            "topic": place.topic,
            "partition": str(place.partition),
            "offset": str(place.offset),
            "group": group,
            "at": datetime.now(UTC).isoformat(),
        }
        return Record(place.key, place.value, (*place.headers, *((name, text.encode()) for name, text in told.items())))


class Consumption(Generic[T]):
    """One member of `group`, known as `instance`: started again under that name, it takes over at once.

    `read` makes a word of a message's value, or raises Poison. `effect` takes words in the order of their partitions,
    about a batch at a time; an error that blames a word (`ITS_FAULT`) makes it see the words one by one.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: Topic,
        group: str,
        read: Callable[[bytes], T],
        effect: Callable[[Sequence[T]], None],
        *,
        instance: str = "0",
        replicas: int = 1,
        at_most: int = AT_MOST,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._group = group
        self._read = read
        self._effect = effect
        self._instance = f"{group}-{instance}"
        self._replicas = replicas
        self._at_most = at_most
        self._told = ""
        self._about = {**on_topic(topic.name, "process"), "messaging.consumer.group.name": group}

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping` is set. Blocks: for a thread of its own."""
        while not stopping.is_set():
            try:
                with self._member() as (consumer, producer):
                    while not stopping.is_set():
                        self._step(consumer, producer, stopping)
            except WinnowError as away:
                self._trouble(away)
                stopping.wait(RETRY_S)

    @contextmanager
    def _member(self) -> Iterator[tuple[Consumer, Producer]]:
        create(self._bootstrap, [self._topic, DEAD_LETTERS], replicas=self._replicas)
        producer = Producer(self._bootstrap, f"{self._instance}-dead-letters")
        try:
            consumer = Consumer(self._bootstrap, [self._topic.name], self._group, self._instance, at_most=self._at_most)
            try:
                yield consumer, producer
            finally:
                with suppress(WinnowError):
                    consumer.close()
        finally:
            with suppress(WinnowError):
                producer.close()

    def _step(self, consumer: Consumer, producer: Producer, stopping: threading.Event) -> None:
        """One batch: all of it has its effect or is buried, then it is committed; or it is given again later."""
        messages = consumer.poll(POLL_S)
        if not messages:
            return
        try:
            with Shared(f"process {self._topic.name}", Kind.CONSUMER, self._about) as traces:
                traces.join_all(carried_by(one.headers) for one in messages)
                letters = self._take(messages)
            bury(producer, [letter.record(self._group) for letter in letters])
        except WinnowError as away:
            self._trouble(away)
            consumer.rewind({(one.topic, one.partition): one.offset for one in reversed(messages)})
            stopping.wait(RETRY_S)
            return
        consumer.commit({(one.topic, one.partition): one.offset for one in messages})
        self._done(messages, letters)

    def _take(self, messages: Sequence[Message]) -> list[Letter]:
        """Read all and let them have their effect; returns those that are to be buried."""
        letters: list[Letter] = []
        words: list[tuple[Message, T]] = []
        for message in messages:
            try:
                words.append((message, self._read(message.value)))
            except ITS_FAULT as wrong:
                letters.append(letter(message, wrong))
        if not words:
            return letters
        try:
            self._effect([word for _, word in words])
        except ITS_FAULT:
            letters += self._one_by_one(words)
        return letters

    def _one_by_one(self, words: Sequence[tuple[Message, T]]) -> list[Letter]:
        letters = []
        for message, word in words:
            try:
                self._effect([word])
            except ITS_FAULT as wrong:
                letters.append(letter(message, wrong))
        return letters

    def _done(self, messages: Sequence[Message], letters: Sequence[Letter]) -> None:
        if self._told:
            logger.info("%s: goes on", self._group)
        self._told = ""
        CONSUMED.labels(topic=self._topic.name, group=self._group).inc(len(messages) - len(letters))
        for one in letters:
            BURIED.labels(topic=self._topic.name, reason=one.reason).inc()
            logger.warning("%s: buried a message of %s: %s", self._group, self._topic.name, one.reason)

    def _trouble(self, away: WinnowError) -> None:
        """Said once, until it goes on."""
        if not self._told:
            logger.warning("%s: waits: %s", self._group, away.detail)
        self._told = away.detail or type(away).__name__


def letter(message: Message, wrong: WinnowError) -> Letter:
    reason = wrong.reason if isinstance(wrong, Poison) else "refused"
    return Letter(message, reason, wrong.detail)


def bury(producer: Producer, records: Sequence[Record]) -> None:
    """Into the dead-letter topic; one that is too large goes without its value, which still lies where it came from."""
    try:
        producer.produce(DEAD_LETTERS.name, records)
    except PayloadTooLarge:
        if len(records) == 1:
            producer.produce(DEAD_LETTERS.name, [replace(records[0], value=b"")])
            return
        for record in records:
            bury(producer, [record])
