"""A local broker for tests, and all that lies in a topic."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from parts.kafka import kafka
from parts.program import HOST, Program, Running, free_ports, start
from winnow.kafka import Consumer, end_offsets
from winnow.topics import Message, Placed, Record, Topic


class Takes:
    """A broker's producer that takes everything (`winnow.kafka.Producer`)."""

    def __init__(self, *args: object, **options: object) -> None: ...

    def produce(self, topic: str, records: Sequence[Record]) -> list[Placed]:
        return [Placed(0, n) for n, _ in enumerate(records)]

    def close(self) -> None: ...


@dataclass
class Broker:
    """A running broker and its address; `again` starts it on the same data after an end."""

    program: Program
    running: Running
    bootstrap: str

    def again(self) -> None:
        self.running = start(self.program)


@contextmanager
def broker_in(folder: Path) -> Iterator[Broker]:
    [port] = free_ports(1)
    program = kafka(folder, port)
    one = Broker(program, start(program), f"{HOST}:{port}")
    try:
        yield one
    finally:
        one.running.stop()


def messages(bootstrap: str, topic: Topic, within_s: float = 20.0) -> list[Message]:
    """Everything in a topic now, each partition in its order."""
    left = sum(end_offsets(bootstrap, topic).values())
    found: list[Message] = []
    if left:
        name = uuid4().hex
        reader = Consumer(bootstrap, [topic.name], name, name)
        until = time.monotonic() + within_s
        while len(found) < left:
            assert time.monotonic() < until, f"{len(found)} of {left} messages"
            found += reader.poll(0.2)
        reader.close()
    return found


def eventually(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)
