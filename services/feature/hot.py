"""Writes people's hot states through to Redis in the call that records an event, and never makes that call fail.

    away ──Redis answers──▶ catching up ──everything since the mark is written──▶ current
      ▲                          │                                                  │
      └───────────────── a time-out, an error, a mark that moved ◀──────────────────┘

While current, a call waits until its people's states are in Redis, at most the time-out. The first failure ends that:
nobody waits any more, and a loop beside the calls asks twice a second whether Redis is back. The mark in Redis says up to
which log position it is complete, so what it missed, or lost by crashing, is whoever acted after the mark; the log is the
truth, and no list of failed writes is kept. Rounds share a pipeline: calls that come meanwhile form the next one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple, Unpack

from services.feature.hot_rows import Facts, HotRows
from services.feature.store import People
from winnow.errors import Unavailable, WinnowError
from winnow.hot_state import Mark
from winnow.hot_store import HotStore
from winnow.serving.telemetry import HOT_BEHIND, HOT_WRITES, ITEM_CHANGES
from winnow.tracing import Attributes, Kind, Shared, TraceContext, carried, span
from winnow.types import Event, Item, Person

CHUNK = 16  # people whose states are made and written at a time: the loop answers others in between
CHECK_S = 1.0  # between two looks at the mark of a Redis that nobody writes to
RETRY_S = 0.5
REDIS: Attributes = {"db.system.name": "redis"}

T = TypeVar("T")
Args = TypeVarTuple("Args")
Callers = Sequence[TraceContext | None]  # for whom a round is written

logger = logging.getLogger(__name__)


class Hot(Protocol):
    """Where people's states go besides this process. No method fails for want of it."""

    async def recorded(self, events: Sequence[Event]) -> None:
        """These events are durable and in memory."""
        ...

    async def put(self, items: Sequence[Item], watermark: int) -> None:
        """These items are durable and in memory; `watermark` is the item log's position now."""
        ...

    async def run(self) -> None:
        """Keep it up to date, for ever."""
        ...

    async def close(self) -> None: ...


class Nowhere:
    """No Redis: the process alone knows."""

    async def recorded(self, events: Sequence[Event]) -> None:
        pass

    async def put(self, items: Sequence[Item], watermark: int) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


@dataclass
class Backlog:
    """Who is still to be written to the Redis process `run_id`, whose mark is `mark`; `upto` is the position of the log
    when they were looked for."""

    run_id: str
    mark: Mark
    upto: int
    people: dict[Person, None]


class WriteThrough:
    """Hot states in one Redis. All but the store's calls runs on the event loop."""

    def __init__(self, people: People, facts: Facts, store: HotStore, log_file: Path, timeout_s: float) -> None:
        self._people = people
        self._facts = facts
        self._store = store
        self._log_file = log_file
        self._timeout_s = timeout_s
        self._rows = HotRows(people, facts, known_log(log_file))
        self._thread = ThreadPoolExecutor(1, "winnow-hot")
        self._turn = asyncio.Lock()  # one pipeline at a time, so that states reach Redis in order
        self._mark: Mark | None = None  # in Redis, as far as we know
        self.current = False
        self._reachable = False  # current or catching up: rounds are written
        self._missed = False  # by a round, since the catch-up began
        self._backlog: Backlog | None = None
        self._next: tuple[dict[Person, None], asyncio.Future[bool], list[TraceContext | None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        HOT_BEHIND.set_function(lambda: people.watermark - (self._mark.position if self._mark else 0))

    # ------------------------------------------------------------------------------------------ calls

    async def recorded(self, events: Sequence[Event]) -> None:
        if not self._reachable:
            HOT_WRITES.labels(outcome="away").inc()
            return
        people = {person: None for event in events for person in self._people.touched(event)}
        written = self._join(people)
        try:
            async with asyncio.timeout(self._timeout_s):
                outcome = "written" if await asyncio.shield(written) else "away"
        except TimeoutError:
            outcome = "late"
        HOT_WRITES.labels(outcome=outcome).inc()

    async def put(self, items: Sequence[Item], watermark: int) -> None:
        """Whoever follows the catalogue looks by itself as well, later: nothing is lost when nobody is told."""
        self._facts.forget(item.item_id for item in items)
        if not self._reachable:
            ITEM_CHANGES.labels(outcome="away").inc()
            return
        told = asyncio.create_task(self._tell(watermark))
        await asyncio.wait([told], timeout=self._timeout_s)

    async def close(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task], timeout=2 * self._timeout_s)
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._store.close()

    # ------------------------------------------------------------------------------------------ rounds

    def _join(self, people: dict[Person, None]) -> asyncio.Future[bool]:
        """Have these people's states written in the next round."""
        if self._next is None:
            self._next = {}, asyncio.get_running_loop().create_future(), []
        waiting, done, callers = self._next
        waiting.update(people)
        callers.append(carried())
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._rounds())
        return done

    async def _rounds(self) -> None:
        while self._next is not None:
            (people, done, callers), self._next = self._next, None
            try:
                await self._round(list(people), callers)
            except WinnowError as away:
                self._lost(away)
            except Exception as bug:  # nobody awaits this task: the mark must not pass what it left out
                self._lost(Unavailable(f"a bug: {bug!r}"))
                raise
            finally:
                settle(done, self._reachable)

    async def _round(self, people: Sequence[Person], callers: Callers) -> None:
        """Write these people's states, and with the last of them the mark; whoever acts from now on is in a later
        round."""
        if not self._reachable:
            return
        upto = Mark(self._rows.log, self._people.watermark)
        parts = chunks(people)
        for chunk in parts[:-1]:
            await self._write(chunk, callers=callers)
        await self._write(parts[-1] if parts else (), upto, callers)

    async def _write(self, people: Iterable[Person], upto: Mark | None = None, callers: Callers = ()) -> None:
        """States as they are now, made and sent in one turn, so that no older one comes later; then the mark, where
        Redis is complete up to it."""
        async with self._turn:
            rows = [row for person in people if (row := self._rows.row(person)) is not None]
            move = (self._mark, upto) if upto is not None and self.current else None
            pipeline: Attributes = {**REDIS, "db.operation.batch.size": len(rows)}
            with Shared("redis.write", Kind.CLIENT, pipeline).join_all(callers):
                if not await self._call(self._store.write, rows, move):
                    raise Unavailable("Redis forgot what it had been told")
            if move is not None:
                self._mark = upto

    async def _tell(self, watermark: int) -> None:
        try:
            with span("redis.tell", Kind.CLIENT, REDIS):
                await self._call(self._store.tell, watermark)
            ITEM_CHANGES.labels(outcome="told").inc()
        except WinnowError as away:
            self._lost(away)
            ITEM_CHANGES.labels(outcome="away").inc()

    def _lost(self, away: WinnowError) -> None:
        if self._reachable:
            logger.warning("hot states are behind: %s", away.detail)
        self.current = self._reachable = False
        self._missed = True
        self._wake.set()

    # ------------------------------------------------------------------------------------------ beside the calls

    async def run(self) -> None:
        while True:
            try:
                await (self._check() if self.current else self._catch_up())
            except WinnowError as away:
                self._lost(away)
                await asyncio.sleep(RETRY_S)
            self._wake.clear()
            if self.current:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await self._wake.wait()

    async def _check(self) -> None:
        """A Redis that was restarted between two rounds may have lost the last of them."""
        async with self._turn:
            if await self._call(self._store.mark) != self._mark:
                raise Unavailable("Redis forgot what it had been told")

    async def _catch_up(self) -> None:
        """Write whoever acted after the mark, while rounds go on; then Redis is complete, unless one of them failed."""
        run_id, mark = await self._call(self._store.run_id), await self._call(self._store.mark)
        if mark is None or mark.log != self._rows.log or mark.position > self._people.watermark:
            mark = await self._begin(mark)
            self._backlog = None
        upto = Mark(self._rows.log, self._people.watermark)
        self._reachable, self._missed = True, False
        left = self._left(run_id, mark)
        written = 0
        while chunk := list(islice(left.people, CHUNK)):
            await self._write(chunk)
            for person in chunk:
                del left.people[person]
            written += len(chunk)
            await asyncio.sleep(0)
        async with self._turn:
            if self._missed or not await self._call(self._store.write, [], (mark, upto)):
                raise Unavailable("Redis went away again")
            self._mark, self.current, self._backlog = upto, True, None
        logger.info("hot states are up to date: %d people written, position %d", written, upto.position)

    def _left(self, run_id: str, mark: Mark) -> Backlog:
        """What an interrupted catch-up left, and whoever acted since; all anew where Redis was started anew meanwhile,
        which may have cost it its last second."""
        left, now = self._backlog, self._people.watermark
        if left is None or (left.run_id, left.mark) != (run_id, mark):
            left = Backlog(run_id, mark, mark.position, {})
        left.people.update(dict.fromkeys(self._people.acted_after(left.upto)))
        left.upto = now
        self._backlog = left
        return left

    async def _begin(self, found: Mark | None) -> Mark:
        """Redis knows nothing of this log, or more than it holds (the home is an older copy): start a new one."""
        if found is not None and found.log == self._rows.log:
            self._rows = HotRows(self._people, self._facts, new_log(self._log_file))
        if found is not None:
            logger.warning("Redis holds the hot states of another log; they are replaced")
        mark = Mark(self._rows.log, 0)
        await self._call(self._store.begin, mark)
        return mark

    async def _call(self, work: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def chunks(people: Sequence[Person]) -> list[Sequence[Person]]:
    return [people[start : start + CHUNK] for start in range(0, len(people), CHUNK)]


def settle(done: asyncio.Future[bool], written: bool) -> None:
    if not done.done():
        done.set_result(written)


def known_log(file: Path) -> int:
    """The name of this home's event log in Redis, given when it is first needed."""
    try:
        return int(file.read_text("utf-8"), 16)
    except (FileNotFoundError, ValueError):
        return new_log(file)


def new_log(file: Path) -> int:
    log = secrets.randbits(64)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{log:016x}", "utf-8")
    return log
