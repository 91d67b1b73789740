"""The two faces of the gateway as a load generator sees them: ask for one person, say what is wrong with the answer.

Clients here are thin on purpose: on a small machine the generator's own work is taken from the servers it measures.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

SKIPPED = "skipped"  # how the fault of an answer without a stage begins
MAX_HEAD_BYTES = 16_384
MAX_BODY_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `fault` is empty when the answer is complete, else says in words what is wrong with it."""

    fault: str
    took_ms: Mapping[str, float] = field(default_factory=dict)


class Face(Protocol):
    """One way into the gateway."""

    async def ask(self, user_id: str) -> Reply:
        """Ask for one person's items. Raises OSError when the connection breaks."""
        ...

    async def close(self) -> None: ...


def fault_of(item_ids: Sequence[str], wanted: int, skipped: Sequence[str]) -> str:
    """Why an answer does not count: not as many items as asked, one twice, or a stage left out."""
    if len(item_ids) != wanted:
        return f"{len(item_ids)} items"
    if len(set(item_ids)) != wanted:
        return "an item twice"
    return f"{SKIPPED} {', '.join(skipped)}" if skipped else ""


# ---------------------------------------------------------------------------------------------- REST


class Connection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection with at most one request under way."""

    def __init__(self) -> None:
        self.open = True
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._fail(ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            answer = parse(self._buffer)
        except ValueError as wrong:
            self._fail(ConnectionError(str(wrong)))
            self.close()
            return
        if answer is not None and self._waiting is not None and not self._waiting.done():
            self._buffer.clear()
            self._waiting.set_result(answer)

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Status and body. A request given up on closes the connection: its answer must not be taken for the next."""
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._waiting
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def _fail(self, error: OSError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


def parse(buffer: bytearray) -> tuple[int, bytes] | None:
    """Status and body of the one answer in `buffer`; None while it is incomplete, ValueError when it makes no sense."""
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        if len(buffer) > MAX_HEAD_BYTES:
            raise ValueError("headers without an end")
        return None
    status_line, *lines = bytes(buffer[:head_end]).lower().split(b"\r\n")
    headers = dict(line.split(b":", 1) for line in lines)
    size = int(headers.get(b"content-length", b"-1"))
    if not 0 <= size <= MAX_BODY_BYTES:
        raise ValueError("an answer without a sensible content-length")
    body = bytes(buffer[head_end + 4 :])
    return (int(status_line.split()[1]), body) if len(body) >= size else None


class RestFace:
    """`POST /v1/recommendations` over a pool of keep-alive connections that grows to `limit`. A server that is asked in
    other words is a subclass with another path, body and reading."""

    path = "/v1/recommendations"

    def __init__(
        self,
        host: str,
        port: int,
        items: int,
        limit: int,
        *,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host, self._port, self._items, self._tls = host, port, items, tls
        self._more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._room = asyncio.Semaphore(limit)

    async def ask(self, user_id: str) -> Reply:
        async with self._room:
            connection = await self._take()
            status, body = await connection.send(self._request(user_id))
            if connection.open:
                self._idle.append(connection)
        return self._read(body) if status == 200 else Reply(f"status {status}")

    def _read(self, body: bytes) -> Reply:
        answer = orjson.loads(body)
        ids = [item["item_id"] for item in answer["items"]]
        return Reply(fault_of(ids, self._items, answer["skipped"]), answer["took_ms"])

    async def close(self) -> None:
        for connection in self._all:
            connection.close()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        self._all = {connection for connection in self._all if connection.open}
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._tls)
        self._all.add(connection)
        return connection

    def _request(self, user_id: str) -> bytes:
        body = self._body(user_id)
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{self._more}\r\n"
        )
        return head.encode() + body

    def _body(self, user_id: str) -> bytes:
        return orjson.dumps({"user_id": user_id, "n": self._items})
