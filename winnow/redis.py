"""The one place that knows Redis's client: connections whose every wait is bounded, and its errors in our words.

A connection does not retry: whoever waits for Redis decides what a failure means, and a retry would double the wait.
An address may hold a password and never enters a message.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis import Redis, exceptions
from redis import asyncio as aio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from winnow.errors import DeadlineExceeded, FailedPrecondition, Unavailable


def connect(url: str, timeout_s: float) -> Redis:
    """A client that connects when it is first used and holds one connection. FailedPrecondition for a bad address."""
    with addressed():
        return Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=False,
            max_connections=4,
            health_check_interval=0,
        )


@contextmanager
def addressed() -> Iterator[None]:
    """FailedPrecondition for an address that is none."""
    try:
        yield
    except ValueError as wrong:
        raise FailedPrecondition("the address of Redis must be redis://host:port/database") from wrong


RECEIVE_BYTES = 256 * 1024


@contextmanager
def translated() -> Iterator[None]:
    """DeadlineExceeded where Redis did not answer in time, Unavailable for all else that it or the network says."""
    try:
        yield
    except (exceptions.TimeoutError, TimeoutError) as late:
        raise DeadlineExceeded("Redis did not answer in time") from late
    except (exceptions.RedisError, OSError) as away:
        raise Unavailable(f"Redis: {type(away).__name__}") from away


class Hashes:
    """Reads many hashes in one round trip (`winnow.feast_layout.Hmgets`), on a connection of its own, one caller at a
    time.

    The client makes the connection (names, passwords, TLS) and tells its errors; sending and reading are done here in one
    piece each, because the client's parser costs more than the rest of the way: 500 hashes of 18 fields are 9,000 values.
    """

    def __init__(self, client: Redis) -> None:
        pool: Any = client.connection_pool
        self._connection = pool.make_connection()
        self._timeout_s: float = self._connection.socket_timeout
        self._lock = threading.Lock()
        self._fields: tuple[Sequence[bytes], bytes] = ((), b"")

    def __call__(self, wanted: Sequence[tuple[bytes, Sequence[bytes]]]) -> Sequence[Sequence[bytes | None]]:
        request = b"".join([self._hmget(key, fields) for key, fields in wanted])
        with translated(), self._lock:
            try:
                return self._exchange(request, len(wanted))
            except (exceptions.ConnectionError, ConnectionError):
                return self._exchange(request, len(wanted))  # a restarted server closed what was open; reads may repeat

    def close(self) -> None:
        with self._lock:
            self._connection.disconnect()

    def _exchange(self, request: bytes, replies: int) -> list[list[bytes | None]]:
        until = time.monotonic() + self._timeout_s
        try:
            self._connection.send_packed_command([request], check_health=False)
            return Replies(self._connection._sock, until).lists(replies)
        except BaseException:
            self._connection.disconnect()  # what still comes would be taken for the next reply
            raise

    def _hmget(self, key: bytes, fields: Sequence[bytes]) -> bytes:
        """The command as sent; those of one call mostly ask for the same fields."""
        if fields is not self._fields[0]:
            self._fields = fields, b"".join(map(bulk, fields))
        return b"".join((b"*%d\r\n" % (2 + len(fields)), b"$5\r\nHMGET\r\n", bulk(key), self._fields[1]))


class Replies:
    """Lists of byte strings, as RESP writes them, from a socket."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until
        self._read = b""
        self._at = 0

    def lists(self, number: int) -> list[list[bytes | None]]:
        return [self._strings(self._size(b"*")) for _ in range(number)]

    def _strings(self, number: int) -> list[bytes | None]:
        found: list[bytes | None] = []
        for _ in range(number):
            size = self._size(b"$")
            if size < 0:
                found.append(None)
                continue
            while len(self._read) < self._at + size + 2:
                self._more()
            found.append(self._read[self._at : self._at + size])
            self._at += size + 2
        return found

    def _size(self, kind: bytes) -> int:
        """The number on the line that begins the next value, which must be of this kind."""
        while (ends := self._read.find(b"\r\n", self._at)) < 0:
            self._more()
        line = self._read[self._at : ends]
        self._at = ends + 2
        if line[:1] != kind:
            raise exceptions.ResponseError(line[:100].decode(errors="replace"))
        return int(line[1:])

    def _more(self) -> None:
        if time.monotonic() > self._until:
            raise TimeoutError
        came = self._sock.recv(RECEIVE_BYTES)
        if not came:
            raise ConnectionResetError
        self._read, self._at = self._read[self._at :] + came, 0


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


class Script:
    """One script that takes one key and numbers and returns numbers, from an event loop: one exchange at a time, on a
    connection of its own.

    As with `Hashes`, the client makes the connection and the exchange is done here: the client's own way takes twice
    as long as Redis does, and this is asked before every request.
    """

    def __init__(self, url: str, timeout_s: float, text: str) -> None:
        with addressed():
            self._pool: Any = aio.ConnectionPool.from_url(url, retry=AsyncRetry(NoBackoff(), 0))
        self._connection: Any = None
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._text = bulk(text.encode())

    async def __call__(self, key: str, *numbers: int) -> list[int]:
        words = b"".join(bulk(word.encode()) for word in (key, *map(str, numbers)))
        request = b"*%d\r\n$4\r\nEVAL\r\n%s$1\r\n1\r\n%s" % (len(numbers) + 4, self._text, words)
        with translated():
            async with asyncio.timeout(self._timeout_s), self._lock:
                return await self._exchange(request)

    async def close(self) -> None:
        if self._connection is not None:
            with translated():
                await self._connection.disconnect(nowait=True)
            self._connection = None

    async def _exchange(self, request: bytes) -> list[int]:
        try:
            if self._connection is None:
                self._connection = self._pool.make_connection()
                await self._connection.connect()
            self._connection._writer.write(request)
            number = await self._number(b"*")
            return [await self._number(b":") for _ in range(number)]
        except BaseException:
            broken, self._connection = self._connection, None  # what still comes would be taken for the next reply
            if broken is not None and broken._writer is not None:
                broken._writer.transport.abort()
            raise

    async def _number(self, kind: bytes) -> int:
        line: bytes = await self._connection._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError
        if line[:1] != kind:
            raise exceptions.ResponseError(line[:100].decode(errors="replace"))
        return int(line[1:])
