"""Every answer into the decision log, beside the request and never in its way.

The request hands its decision to a bounded queue; a thread encodes it and delivers it to the broker. While the broker is
away decisions wait on disk and are delivered in order later; without a broker the home keeps the newest. What finds no
room is counted, not waited for: a page never depends on this. A decision may be delivered twice, told by its request id.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import orjson

from services.gateway.spool import Spool
from winnow.decisions import Decision, key_of, to_json
from winnow.errors import DiskFull, PayloadTooLarge, ResourceExhausted, WinnowError
from winnow.kafka import Producer, Record, create
from winnow.serving.telemetry import DECISIONS, DECISIONS_DROPPED, DECISIONS_WAITING
from winnow.topics import DECISIONS as TOPIC

BATCH = 100  # decisions delivered at a time
PAUSE_S = 0.05  # for a batch to gather
DELIVERY_S = 3.0
RETRY_S = 2.0
STOP_S = 5.0  # for what is queued when the process ends

logger = logging.getLogger(__name__)

OpenSpool = Callable[[], Spool]


class Outlet(Protocol):
    """Where decisions go. One thread at a time."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Take all or count them as dropped; no platform error leaves."""
        ...

    def idle(self) -> None:
        """Nothing new came: time for what waits."""
        ...

    def close(self) -> None: ...


class DecisionLog:
    """A bounded queue in memory and the thread that empties it."""

    def __init__(self, outlet: Outlet, *, queue: int) -> None:
        self._outlet = outlet
        self._size = queue
        self._queue: deque[Decision] = deque()
        self._stopping = threading.Event()

    def log(self, decision: Decision) -> None:
        """Called on the request path: costs an append."""
        if len(self._queue) >= self._size:
            DECISIONS_DROPPED.labels(reason="queue_full").inc()
        else:
            self._queue.append(decision)

    async def run(self) -> None:
        """Deliver, for ever; what is queued at the end is delivered still."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        threading.Thread(target=self._thread, args=(loop, ended), name="decisions", daemon=True).start()
        try:
            await asyncio.shield(ended)
        finally:
            self._stopping.set()
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(STOP_S):
                    await asyncio.shield(ended)

    def _thread(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        bug: BaseException | None = None
        try:
            while self._queue or not self._stopping.is_set():
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                if batch:
                    self._outlet.deliver([Record(key_of(one), to_json(one)) for one in batch])
                else:
                    self._outlet.idle()
                    self._stopping.wait(PAUSE_S)
            self._outlet.close()
        except BaseException as wrong:  # told to whoever runs this, where it ends the process
            bug = wrong

        def tell() -> None:
            if not ended.done():
                ended.set_result(None) if bug is None else ended.set_exception(bug)

        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell)


class ToDisk:
    """Files in the home: all there is without a broker, and the spool where there is one."""

    def __init__(self, open_spool: OpenSpool) -> None:
        self._open_spool = open_spool
        self._spool: Spool | None = None
        self._told = ""

    @property
    def spool(self) -> Spool:
        """Made when it is needed: a folder that cannot be written must not keep a gateway from starting."""
        if self._spool is None:
            self._spool = self._open_spool()
        return self._spool

    def deliver(self, records: Sequence[Record]) -> None:
        try:
            self.spool.append([record.value for record in records])
            DECISIONS.labels(to="disk").inc(len(records))
            DECISIONS_WAITING.set(self.spool.size_bytes)
            self._told = ""
        except WinnowError as full:
            reason = reason_of(full)
            DECISIONS_DROPPED.labels(reason=reason).inc(len(records))
            if reason != self._told:
                logger.warning("decisions are dropped: %s", full.detail)
            self._told = reason

    def idle(self) -> None:
        pass

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()


class ToBroker:
    """The topic of decisions; the disk while it cannot be reached, and then until it has caught up."""

    def __init__(self, bootstrap: str, disk: ToDisk, *, replicas: int) -> None:
        self._bootstrap = bootstrap
        self._disk = disk
        self._replicas = replicas
        self._producer: Producer | None = None
        self._retry_at = 0.0
        self._left_over = True  # an earlier process may have left decisions

    def deliver(self, records: Sequence[Record]) -> None:
        self.idle()
        if self._left_over or not self._sent(records):
            self._left_over = True
            self._disk.deliver(records)

    def idle(self) -> None:
        """Deliver what waits on disk, one batch after the other, until there is none or the broker is away."""
        while self._left_over and self._reachable():
            try:
                lines = self._disk.spool.oldest(BATCH)
            except WinnowError:  # no disk: nothing can lie there
                lines = []
            if not lines:
                self._left_over = False
            elif self._sent([Record(key_in(line), line) for line in lines]):
                self._disk.spool.drop()
            DECISIONS_WAITING.set(self._disk.spool.size_bytes if lines else 0)

    def close(self) -> None:
        self._let_go()
        self._disk.close()

    def _reachable(self) -> bool:
        return self._producer is not None or time.monotonic() >= self._retry_at

    def _sent(self, records: Sequence[Record]) -> bool:
        """Whether the broker has them, or never will: one that is too large is dropped."""
        if not self._reachable():
            return False
        try:
            if self._producer is None:
                create(self._bootstrap, [TOPIC], replicas=self._replicas)
                self._producer = Producer(self._bootstrap, "winnow-decisions", delivery_s=DELIVERY_S)
            self._producer.produce(TOPIC.name, records)
        except PayloadTooLarge:
            return self._sent_singly(records)
        except WinnowError as away:
            logger.warning("decisions wait on disk: %s", away.detail)
            self._let_go()
            self._retry_at = time.monotonic() + RETRY_S
            return False
        DECISIONS.labels(to="broker").inc(len(records))
        return True

    def _sent_singly(self, records: Sequence[Record]) -> bool:
        if len(records) == 1:
            DECISIONS_DROPPED.labels(reason="too_large").inc()
            return True
        return all(self._sent([record]) for record in records)

    def _let_go(self) -> None:
        if self._producer is not None:
            with suppress(WinnowError):
                self._producer.close()
        self._producer = None


def reason_of(full: WinnowError) -> str:
    match full:
        case DiskFull():
            return "disk_full"
        case ResourceExhausted():
            return "spool_full"
        case _:
            return "disk_failed"


def key_in(line: bytes) -> bytes:
    """The key of a decision that was encoded before."""
    body = orjson.loads(line)
    return str(body["user_id"] or body["session_id"]).encode()
