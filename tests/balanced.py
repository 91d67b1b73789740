"""Load over several gateways as a Kubernetes Service spreads it: a new connection goes to any gateway that its probe calls
ready, and an open one is used until the server closes it or asks for another. Requests leave by the clock as long as no
more than `IN_FLIGHT` are unanswered: a machine that cannot hold the rate is asked at the rate that it can."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson

HOST = "127.0.0.1"
PROBE_S = 0.5  # readinessProbe.periodSeconds, shorter than a cluster's
TIMEOUT_S = 20.0
IN_FLIGHT = 16
USES = 25  # of one connection; then another, so that handshakes go on


@dataclass
class Seen:
    """What came back."""

    latencies_s: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    by_port: Counter[int] = field(default_factory=Counter)
    handshakes: int = 0
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def held(self) -> float:
        """Answers a second."""
        return len(self.latencies_s) / (self.ended - self.began)

    def told(self) -> str:
        times = sorted(self.latencies_s)
        p50, p99 = (1000 * times[int(q * (len(times) - 1))] for q in (0.5, 0.99))
        return (
            f"{len(times)} answers, {sum(self.failed.values())} failed, {sum(self.skipped.values())} without a stage, "
            f"{self.held:.0f}/s held, p50 {p50:.0f} ms, p99 {p99:.0f} ms, {self.handshakes} connections, "
            f"by gateway {sorted(self.by_port.values())}"
        )


class Connection:
    """One keep-alive connection to one gateway."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port, self.uses = port, 0
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None) -> Connection:
        name = "localhost" if tls else None
        return cls(port, *await asyncio.open_connection(HOST, port, ssl=tls, server_hostname=name))

    @property
    def usable(self) -> bool:
        return not self._reader.at_eof() and not self._writer.is_closing() and self.uses < USES

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body; no more uses where the server said so."""
        self.uses += 1
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        )
        self._writer.write(head.encode() + b"\r\n\r\n" + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in answer[1:] if line)
        if headers.get(b"connection") == b"close":
            self.uses = USES
        return int(answer[0].split()[1]), await self._reader.readexactly(int(headers[b"content-length"]))

    def close(self) -> None:
        self._writer.close()


class Balanced:
    """The gateways at `ports`, and the people who ask. `tls` says whom new connections trust."""

    def __init__(self, ports: Sequence[int], people: Sequence[str], tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self._ports, self._people = ports, people
        self._ready = set(ports)
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self.seen = Seen()

    @asynccontextmanager
    async def asking(self, rate: float) -> AsyncIterator[Seen]:
        """Ask `rate` times a second until the block ends; then wait for the last answer."""
        probes = [asyncio.create_task(self._probe(port)) for port in self._ports]
        over = asyncio.Event()
        clock = asyncio.create_task(self._clock(rate, over))
        try:
            yield self.seen
        finally:
            over.set()
            await clock
            self.seen.ended = time.monotonic()
            for probe in probes:
                probe.cancel()
            for connection in self._idle:
                connection.close()

    async def _clock(self, rate: float, over: asyncio.Event) -> None:
        self.seen.began = due = time.monotonic()
        asked = 0
        async with asyncio.TaskGroup() as tasks:
            while not over.is_set():
                await self._room.acquire()
                due = max(due + 1 / rate, time.monotonic() - 1 / rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                asked += 1
                user = self._people[asked % len(self._people)]
                tasks.create_task(self._once(user)).add_done_callback(lambda done: self._room.release())

    async def _once(self, user: str) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                connection = await self._connection()
                status, body = await connection.ask(
                    "POST", "/v1/recommendations", orjson.dumps({"user_id": user, "n": 10})
                )
        except (OSError, EOFError, TimeoutError) as lost:
            self.seen.failed[type(lost).__name__] += 1
            return
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.close()
        self.seen.latencies_s.append(time.monotonic() - began)
        self.seen.by_port[connection.port] += 1
        if status != 200:
            self.seen.failed[f"status {status}"] += 1
        elif skipped := orjson.loads(body)["skipped"]:
            self.seen.skipped[", ".join(skipped)] += 1

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop(0)
            if connection.usable:
                return connection
            connection.close()
        self.seen.handshakes += 1
        ports = sorted(self._ready) or self._ports  # a Service without a ready end refuses; a gateway says why
        return await Connection.open(random.choice(ports), self.tls)

    async def _probe(self, port: int) -> None:
        """As a kubelet does: a connection of its own each time."""
        while True:
            status = 0
            with suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(PROBE_S * 4):
                    connection = await Connection.open(port, self.tls)
                    status, _ = await connection.ask("GET", "/readyz")
                    connection.close()
            (self._ready.add if status == 200 else self._ready.discard)(port)
            await asyncio.sleep(PROBE_S)
