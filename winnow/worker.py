"""Keeps heavy work off the event loop: a few threads with a bounded queue, a thread for what never ends, and upkeep
that follows a catalogue.

Models, vector search and SQL release the interpreter lock, so a thread keeps the loop answering meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple, Unpack

import numpy as np

from winnow.catalogue import Rows
from winnow.errors import ResourceExhausted

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Worker:
    """`threads` threads; more than `max_waiting` calls at once are refused rather than queued for ever."""

    def __init__(self, name: str, *, threads: int = 1, max_waiting: int = 256) -> None:
        self._name = name
        self._max_waiting = max_waiting
        self._waiting = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        """`work(*args)` in a thread. Work whose caller gives up is not begun any more, so that a queue that was late
        once does not stay late; what has begun finishes and keeps its place until then."""
        if self._waiting >= self._max_waiting:
            raise ResourceExhausted(f"{self._name}: {self._max_waiting} calls are waiting already")
        self._waiting += 1
        handed = self._threads.submit(work, *args)
        future = asyncio.wrap_future(handed)
        future.add_done_callback(self._left)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            handed.cancel()
            raise

    def _left(self, future: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # seen here, so that a caller who gave up does not leave a warning behind

    def close(self) -> None:
        """Take no more calls; those running finish."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Upkeep:
    """Applies changes of the catalogue in a thread of its own, in order, one batch at a time.

    `absorb(rows)` brings tables up to date for these rows. An error in it is a bug: the next `changed` or `settled`
    raises it.
    """

    def __init__(self, name: str, absorb: Callable[[Rows], None]) -> None:
        self._absorb = absorb
        self._worker = Worker(name)
        self._pending: list[Rows] = []
        self._task: asyncio.Task[None] | None = None

    def changed(self, rows: Rows) -> None:
        """Rows were written; returns at once. Called on the event loop (`winnow.catalogue.Changed`)."""
        self._pending.append(rows)
        if self._task is None or self._task.done():
            if self._task is not None and not self._task.cancelled():
                self._task.result()
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def settled(self) -> None:
        """Returns when everything changed so far is absorbed."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _drain(self) -> None:
        while self._pending:
            rows = np.unique(np.concatenate(self._pending))
            self._pending.clear()
            await self._worker.run(self._absorb, rows)

    def close(self) -> None:
        self._worker.close()


async def endless(name: str, work: Callable[[], None], stop: Callable[[], None], *, stop_s: float) -> None:
    """Run `work` in a daemon thread of its own until this is cancelled; then `stop()` tells it to return, which is
    waited for, but not for longer than `stop_s` seconds. An error in `work` is a bug, raised here."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    threading.Thread(target=ends, args=(work, loop, ended), name=name, daemon=True).start()
    try:
        await asyncio.shield(ended)
    finally:
        stop()
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(stop_s):
                await asyncio.shield(ended)


def ends(work: Callable[[], None], loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    """`work()`, and how it ended told to the loop."""
    bug: BaseException | None = None
    try:
        work()
    except BaseException as wrong:  # raised again where somebody waits for the end
        bug = wrong
    tell(loop, lambda: settle(ended, bug))


def settle(future: asyncio.Future[None], bug: BaseException | None = None) -> None:
    """The end of something that is waited for, unless nobody waits any more."""
    if future.done():
        return
    if bug is None:
        future.set_result(None)
    else:
        future.set_exception(bug)


def tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Run `what` in the loop, unless the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(what)
