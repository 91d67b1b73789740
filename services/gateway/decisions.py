"""Every answer into the decision log and the audit log, beside the request and never in its way.

The request hands its decision to a queue of so many bytes; a thread encodes it, has it recorded (`winnow.audit`) and gives
it to an outlet (disk or broker). What finds no room is counted, not waited for: a page never depends on this.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from services.gateway.audited import Answered, answers_of
from winnow.audit.acts import Audit, Unaudited
from winnow.audit.asked import Asked, asked
from winnow.decisions import Decision, key_of, size_bytes, to_json
from winnow.serving.telemetry import DECISIONS_DROPPED
from winnow.topics import Record
from winnow.tracing import TraceContext, carried, carrying
from winnow.worker import endless

BATCH = 100  # decisions delivered at a time
PAUSE_S = 0.05  # for a batch to gather
STOP_S = 5.0  # for what is queued when the process ends


class Outlet(Protocol):
    """Where decisions go. One thread at a time; no platform error leaves."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Take each, or count it as dropped."""
        ...

    def idle(self) -> bool:
        """Nothing new came: time for what waits. Whether more waits that can be delivered now."""
        ...

    def close(self) -> None: ...


class DecisionLog:
    """A queue of at most `queue_bytes` in memory, and the thread that empties it. Without that thread nothing is kept:
    a gateway that only answers a command has no decision log."""

    def __init__(self, outlet: Outlet, *, queue_bytes: int, audit: Audit | None = None) -> None:
        self._outlet = outlet
        self.audit = audit or Unaudited()
        self._limit_bytes = queue_bytes
        self._queue: deque[tuple[Decision, Asked, TraceContext | None, int]] = deque()
        self._running = False
        self._stopping = threading.Event()
        self._taken_bytes = 0  # only the request path writes this one,
        self._done_bytes = 0  # and only the thread this one

    @property
    def running(self) -> bool:
        """Whether decisions are kept: what only they need is else not worth asking for."""
        return self._running

    @property
    def waiting_bytes(self) -> int:
        """About what is in memory and not delivered yet."""
        return self._taken_bytes - self._done_bytes

    def log(self, decision: Decision) -> None:
        """Called on the request path: costs an append."""
        size = size_bytes(decision)
        if not self._running:
            return
        if self.waiting_bytes + size > self._limit_bytes:
            DECISIONS_DROPPED.labels(reason="queue_full").inc()
            self.audit.missed("queue_full")
            return
        self._taken_bytes += size
        self._queue.append((decision, asked(), carried(), size))

    async def run(self) -> None:
        """Deliver, for ever; what is queued at the end is delivered still."""
        self._running = True
        await endless("decisions", self._deliver, self._stopping.set, stop_s=STOP_S)

    def _deliver(self) -> None:
        while self._queue or not self._stopping.is_set():
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            if batch:
                lines = [to_json(one) for one, _, _, _ in batch]
                answered = [Answered(one, line, by) for (one, by, _, _), line in zip(batch, lines, strict=True)]
                self.audit.answers(len(batch), partial(answers_of, answered))
                places = [place for _, _, place, _ in batch]
                self._outlet.deliver(
                    [
                        Record(key_of(a.decision), a.line, carrying(place))
                        for a, place in zip(answered, places, strict=True)
                    ]
                )
                self._done_bytes += sum(size for _, _, _, size in batch)
            tended = self.audit.tend()
            if len(self._queue) < BATCH and not tended and (batch or not self._outlet.idle()):
                self._stopping.wait(PAUSE_S)  # after each batch too: one decision alone costs as much as several
        self.audit.close()
        self._outlet.close()
