"""A TCP proxy that makes whoever is behind it slow: what is sent to it arrives `delay_s` later, in order.

Bytes on their way do not wait for each other, so a stream keeps its throughput and every request is late by the same
time, as over a long line. It runs on a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from parts.program import HOST

CHUNK_BYTES = 64 * 1024
IN_FLIGHT = 1_000  # chunks of one connection; then its sender waits
CONNECT_S = 5.0


class Proxy:
    """Listens on `port` and forwards to `target`; `delay_s` may be changed at any time and holds from then on."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.delay_s = 0.0

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(self._listen(), loop).result(CONNECT_S)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(hang_up(server), loop).result(CONNECT_S)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(CONNECT_S)
            loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, HOST, self.port)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One connection; when either side ends, both do."""
        try:
            far, forth = await asyncio.wait_for(asyncio.open_connection(HOST, self.target), CONNECT_S)
        except (OSError, TimeoutError):
            back.transport.abort()
            return
        pipes = [asyncio.create_task(self._late(near, forth)), asyncio.create_task(straight(far, back))]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pipe in pipes:
                pipe.cancel()
            for writer in (forth, back):
                writer.transport.abort()

    async def _late(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)

        async def deliver() -> None:
            while True:
                due, chunk = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                sink.write(chunk)
                await sink.drain()

        delivering = asyncio.create_task(deliver())
        try:
            with suppress(ConnectionError):
                while chunk := await source.read(CHUNK_BYTES):
                    await waiting.put((loop.time() + self.delay_s, chunk))
        finally:
            delivering.cancel()


async def hang_up(server: asyncio.Server) -> None:
    """End the server and every connection."""
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def straight(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
