"""Keeps heavy work off the event loop: a few threads with a bounded queue, a thread for what never ends, and upkeep
that follows a catalogue.

Models, vector search and SQL release the interpreter lock, so a thread keeps the loop answering meanwhile. What is over in
a few milliseconds costs more on its way into a thread and back, with cold caches there, than it holds up the loop: work that
has lately been brief may run where it is called.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TypeVar, TypeVarTuple, Unpack

import numpy as np

from winnow.catalogue import Rows
from winnow.errors import ResourceExhausted, WinnowError

T = TypeVar("T")
Args = TypeVarTuple("Args")

log = logging.getLogger(__name__)

BRIEF_S = 0.01  # what the loop may be held up by one call
LATELY = 64  # calls in a row that were brief, before one runs on the loop
AGAIN_S = 1.0  # until changes that could not be absorbed are tried again


class Worker:
    """`threads` threads; more than `max_waiting` calls at once are refused rather than queued for ever."""

    def __init__(self, name: str, *, threads: int = 1, max_waiting: int = 256) -> None:
        self._name = name
        self._max_waiting = max_waiting
        self._waiting = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        """`work(*args)` in a thread. Work whose caller gives up is not begun any more, so that a queue that was late
        once does not stay late; what has begun finishes and keeps its place until then. The caller's deadline and
        request id hold in the thread, too."""
        if self._waiting >= self._max_waiting:
            raise ResourceExhausted(f"{self._name}: {self._max_waiting} calls are waiting already")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._waiting += 1
        handed = self._threads.submit(copy_context().run, partial(work, *args))
        handed.add_done_callback(lambda done: tell(loop, partial(self._left, answer, done)))
        try:
            return await answer
        except asyncio.CancelledError:
            handed.cancel()
            raise

    def _left(self, answer: asyncio.Future[T], done: Future[T]) -> None:
        """On the loop: the work is over, or was never begun. One step from the thread to its caller: asyncio's own bridge
        between the two kinds of future takes three."""
        self._waiting -= 1
        if answer.done():  # its caller gave up
            return
        if done.cancelled():
            answer.cancel()
        elif (wrong := done.exception()) is not None:
            answer.set_exception(wrong)
        else:
            answer.set_result(done.result())

    def close(self) -> None:
        """Take no more calls; those running finish."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class BriefWorker(Worker):
    """For work that computes and waits for nobody: after `LATELY` calls of at most `BRIEF_S` seconds of CPU each the next run
    on the event loop, until one takes longer, and while none is in a thread."""

    def __init__(self, name: str, *, threads: int = 1, max_waiting: int = 256) -> None:
        super().__init__(name, threads=threads, max_waiting=max_waiting)
        self._brief = 0  # calls in a row

    async def run(self, work: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        if self._waiting or self._brief < LATELY:
            return await super().run(self._timed, work, *args)
        await asyncio.sleep(0)  # or a caller that asks again and again would leave nobody else a turn
        if self._brief < LATELY:  # of those who came in one turn the first was long
            return await super().run(self._timed, work, *args)
        return self._timed(work, *args)

    def _timed(self, work: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        began = time.thread_time()  # by the clock it would also be long for having waited for a core
        try:
            return work(*args)
        finally:
            self._brief = self._brief + 1 if time.thread_time() - began <= BRIEF_S else 0


class Upkeep:
    """Applies changes of the catalogue in a thread of its own, in order, one batch at a time.

    `absorb(rows)` brings tables up to date for these rows, and may be called with the same rows again. While a part
    that it needs is away (an error of the platform), it is tried again; any other error is a bug, which the next
    `changed` or `settled` raises.
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
            self._task = asyncio.get_running_loop().create_task(self._drain(), context=Context())  # no one's deadline

    async def settled(self) -> None:
        """Returns when everything changed so far is absorbed."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _drain(self) -> None:
        while self._pending:
            rows = np.unique(np.concatenate(self._pending))
            self._pending.clear()
            try:
                await self._worker.run(self._absorb, rows)
            except WinnowError as away:
                log.warning("%d changed rows wait: %s", len(rows), away)
                self._pending.append(rows)
                await asyncio.sleep(AGAIN_S)

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
