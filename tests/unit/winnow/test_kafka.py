"""A client that finds no broker leaves nothing behind, however often it is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from winnow.errors import Unavailable
from winnow.kafka import Consumer, Producer, end_offsets
from winnow.topics import EVENTS

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
