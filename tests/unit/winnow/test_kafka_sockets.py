"""An attempt that fails leaves no socket open, whether or not the garbage collector comes by."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import errors  # type: ignore[import-untyped]
from kafka.net.inet import create_connection  # type: ignore[import-untyped]

from parts.program import HOST, free_ports
from winnow.kafka import connection
from winnow.kafka_sockets import DIRECT


class Net:
    """What the client's sockets ask of its loop."""

    async def wait_write(self, waiting: Any, timeout_at: float | None = None) -> None:
        left = 1.0 if timeout_at is None else timeout_at - time.monotonic()
        if not select.select([], [waiting], [], max(left, 0.0))[1]:
            raise errors.KafkaTimeoutError("late")


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The sockets that this thread makes."""
    noted: list[socket.socket] = []
    here = threading.get_ident()

    class Noted(socket.socket):
        def __init__(self, *kind: Any, **more: Any) -> None:
            super().__init__(*kind, **more)
            if threading.get_ident() == here:
                noted.append(self)

    monkeypatch.setattr(socket, "socket", Noted)
    return noted


def all_closed(sockets: list[socket.socket]) -> bool:
    return all(one.fileno() == -1 for one in sockets)


def attempt(port: int, within_s: float = 1.0) -> socket.socket:
    reached: socket.socket = asyncio.run(
        create_connection(Net(), HOST, port, proxy_url=DIRECT, timeout_at=time.monotonic() + within_s)
    )
    return reached


@pytest.mark.usefixtures("uncollected")
def test_a_refused_attempt_leaves_nothing_open(made: list[socket.socket]) -> None:
    [port], kept = free_ports(1), []
    made.clear()
    for _ in range(10):
        with pytest.raises(errors.KafkaConnectionError) as refused:
            attempt(port)
        kept.append(refused)  # as a log would: the exception holds the frames that hold the socket
    assert len(made) >= 10
    assert all_closed(made)


@pytest.mark.usefixtures("uncollected")
def test_an_attempt_that_takes_too_long_leaves_nothing_open(made: list[socket.socket]) -> None:
    with socket.create_server((HOST, 0)) as server:
        made.clear()
        with pytest.raises(errors.KafkaConnectionError) as late:
            attempt(server.getsockname()[1], within_s=-1.0)
        assert made
        assert all_closed(made), late


def test_who_is_reached_is_spoken_to() -> None:
    with socket.create_server((HOST, 0)) as server, attempt(server.getsockname()[1]) as reached:
        other, _ = server.accept()
        with other:
            reached.setblocking(True)
            reached.sendall(b"hello")
            assert other.recv(5) == b"hello"


def test_every_client_connects_this_way() -> None:
    assert connection("broker:9092", "any")["proxy_url"] == DIRECT
