"""Sends a log to its topic: every durable row, in order, from where it stopped last time.

The log is the truth and the spool at once. What the broker has acknowledged is remembered beside it as marks (position,
offsets per partition). A failed attempt starts again at the last mark, so a row may be sent twice but none is left out
and none overtakes another of its key; readers tell rows apart by their ids. A broker whose offsets fall behind a mark has
lost records: what it lost is sent again. Knows rows and keys, not what they mean.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress

from services.feature.marks import Marks
from services.feature.onward import Key, Value
from services.feature.origins import Origins
from winnow.errors import WinnowError
from winnow.eventlog import Log
from winnow.kafka import Producer, create, end_offsets
from winnow.serving.telemetry import BACKLOG_ROWS, BACKLOG_SECONDS, FORWARDED
from winnow.tail import Tail
from winnow.topics import Placed, Record, Topic
from winnow.worker import endless, settle, tell

BATCH = 500  # rows produced at a time
NEAR = BATCH  # a backlog of so few rows is gone in milliseconds: worth waiting for
CHECK_S = 5.0  # between two looks at an idle broker
RETRY_S = 0.5
STOP_S = 2.0  # for a batch on its way when the process ends
TICK_S = 0.1  # how finely the age of the backlog is known
TICKS = 10_000

logger = logging.getLogger(__name__)


class Forwarder:
    """Sends one log to one topic, from a thread of its own. `forwarded` is the position that the broker has reached."""

    def __init__(
        self, log: Log, topic: Topic, key: Key, value: Value, bootstrap: str, *, replicas: int, imports: bool
    ) -> None:
        self._topic = topic
        self._key = key
        self._value = value
        self._bootstrap = bootstrap
        self._replicas = replicas
        self._marks = Marks(log.folder / "forwarded.json", topic.name, log.position)
        self._tail = Tail(log.folder, self._marks.position, imports=imports)
        self._written = log.position
        self._origins = Origins()
        self.forwarded = self._marks.position
        self._ticks: deque[tuple[int, float]] = deque()  # (position, when it was written), oldest first
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap by position
        self._calls = 0
        self._prompt = True  # the broker keeps up: waiting for it makes sense
        self._more = threading.Event()
        self._stopping = threading.Event()
        self._away = ""
        if self._written > self.forwarded:
            self._tick(self._written)
        BACKLOG_ROWS.labels(topic=topic.name).set_function(lambda: self.backlog_rows)
        BACKLOG_SECONDS.labels(topic=topic.name).set_function(lambda: self.backlog_s)

    @property
    def backlog_rows(self) -> int:
        return max(0, self._written - self.forwarded)

    @property
    def backlog_s(self) -> float:
        """Age of the oldest row that the broker lacks, since this process knows of it."""
        ticks = list(self._ticks)
        return next((time.monotonic() - at for position, at in ticks if position > self.forwarded), 0.0)

    def written(self, position: int, rows: int = 1) -> None:
        self._origins.note(position, rows)
        self._tick(position)
        self._written = max(self._written, position)
        self._more.set()

    async def reached(self, position: int, within_s: float) -> bool:
        """Does not wait for a broker that was late and has not caught up since."""
        if self.forwarded >= position or not self._prompt:
            return self.forwarded >= position
        self._calls += 1
        done = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (position, self._calls, done))
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await done
        if done.cancelled():
            self._prompt = False
        return self.forwarded >= position

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await endless(f"forward-{self._topic.name}", lambda: self._send(loop), self._stop, stop_s=STOP_S)

    def _stop(self) -> None:
        self._stopping.set()
        self._more.set()

    # ------------------------------------------------------------------------------------------ in the thread

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping.is_set():
            self._attempt(loop)
        self._marks.save()

    def _attempt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect and send until something fails."""
        try:
            create(self._bootstrap, [self._topic], replicas=self._replicas)
            producer = Producer(self._bootstrap, f"winnow-forward-{self._topic.name}")
            try:
                self._verify()
                self._pump(producer, loop)
            finally:
                producer.close()
        except WinnowError as away:
            if not self._away:
                logger.warning("%s is behind, Kafka at %s: %s", self._topic.name, self._bootstrap, away.detail)
            self._away = away.detail
            self._tail.move(self._marks.position)
            tell(loop, self._late)
            self._stopping.wait(RETRY_S)

    def _pump(self, producer: Producer, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping.is_set():
            self._more.clear()
            rows = self._tail.read(self._written, BATCH)
            if rows:
                records = [
                    Record(self._key(row), self._value(row, position), self._origins.headers(position))
                    for position, row in rows
                ]
                self._take(producer.produce(self._topic.name, records))
                FORWARDED.labels(topic=self._topic.name).inc(len(rows))
            elif self._tail.position > self._marks.position:
                self._marks.add(self._tail.position, {})  # bulk rows that were passed over
            self.forwarded = self._marks.position
            self._origins.forget(self.forwarded)
            tell(loop, self._woken)
            if self._away:
                logger.info("%s goes to Kafka at %s again", self._topic.name, self._bootstrap)
                self._away = ""
            if not rows and not self._more.wait(CHECK_S):
                self._verify()

    def _take(self, placed: Iterable[Placed]) -> None:
        """Note what was acknowledged; a record placed before an earlier one shows that the broker lost that one."""
        firsts: dict[int, int] = {}
        offsets: dict[int, int] = {}
        for one in placed:
            firsts.setdefault(one.partition, one.offset)
            offsets[one.partition] = one.offset + 1
        if not self._rewound(firsts):
            self._marks.add(self._tail.position, offsets)

    def _verify(self) -> None:
        """Compare what the broker has with what it acknowledged."""
        ends = end_offsets(self._bootstrap, self._topic)
        self._rewound({partition: ends.get(partition, 0) for partition in self._marks.offsets})

    def _rewound(self, ends: Mapping[int, int]) -> bool:
        """Whether the broker ends before a mark; then what it lost is sent again."""
        lost = self._marks.drop_beyond(ends)
        if lost:
            logger.warning("%s lost records: sending again from position %d", self._topic.name, self._marks.position)
            self._tail.move(self._marks.position)
            self.forwarded = self._marks.position
        return lost

    # ------------------------------------------------------------------------------------------ in the loop

    def _woken(self) -> None:
        self._prompt = self._prompt or self.backlog_rows < NEAR
        while self._waiting and self._waiting[0][0] <= self.forwarded:
            settle(heapq.heappop(self._waiting)[2])
        while self._ticks and self._ticks[0][0] <= self.forwarded:
            self._ticks.popleft()

    def _late(self) -> None:
        """The broker is away: nobody need wait for it."""
        self._prompt = False
        for _, _, done in self._waiting:
            settle(done)
        self._waiting.clear()

    def _tick(self, position: int) -> None:
        now = time.monotonic()
        if self._ticks and (now - self._ticks[-1][1] < TICK_S or len(self._ticks) >= TICKS):
            self._ticks[-1] = (position, self._ticks[-1][1])
        else:
            self._ticks.append((position, now))
