"""A client that finds no broker leaves nothing behind, however often it is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from winnow import kafka
from winnow.errors import Unavailable
from winnow.kafka import Consumer, Producer, end_offsets, messages
from winnow.topics import DECISIONS, EVENTS

NOBODY = "127.0.0.1:1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "connect",
    [
        lambda: Producer(NOBODY, "test"),
        lambda: Consumer(NOBODY, [EVENTS.name], "test", "test-0"),
        lambda: end_offsets(NOBODY, EVENTS),
    ],
    ids=["producer", "consumer", "admin"],
)
def test_no_thread_outlives_an_attempt_to_connect(connect: Callable[[], object]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(Unavailable):
        connect()
    assert {one for one in threading.enumerate() if one.name.startswith("kafka")} <= before


class Stuck:
    """A consumer whose partition 1 has no leader; on partition 0 others go on writing."""

    def __init__(self, busy: bool) -> None:
        self.read = 3 if busy else None
        self.closed = False

    def assign(self, places: Sequence[Any]) -> None: ...

    def seek_to_beginning(self, *places: Any) -> None: ...

    def position(self, place: Any) -> int | None:
        return self.read if place.partition == 0 else None

    def poll(self, timeout_ms: int) -> dict[Any, list[Any]]:
        if self.read is None:
            return {}
        self.read += 1
        one = SimpleNamespace(topic="", partition=0, offset=self.read - 1, key=b"", value=b"", headers=[])
        return {0: [one]}

    def close(self, **how: Any) -> None:
        self.closed = True


@pytest.mark.timeout(30)
@pytest.mark.parametrize("busy", [False, True])
def test_a_partition_of_which_nothing_comes_is_an_error_however_busy_the_others_are(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Stuck(busy)
    monkeypatch.setattr(kafka, "opened", lambda *kind, **options: client)
    monkeypatch.setattr(kafka, "STALL_S", 0.05)
    with pytest.raises(Unavailable, match="nothing came"):
        list(messages(NOBODY, DECISIONS, {0: 3, 1: 5}))
    assert client.closed
