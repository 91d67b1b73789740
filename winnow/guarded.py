"""Calls to one peer behind a breaker: while it is down nobody waits for it, and no caller pays for finding out whether it
is back. The call that probes runs beside its caller, who is refused like everybody else.

Knows neither the peer nor what is called. What the peer refuses (a wrong argument, a full queue) is an answer: it lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from winnow.breaker import Breaker, Permit
from winnow.errors import DeadlineExceeded, Unavailable, WinnowError
from winnow.pipeline import remaining_s
from winnow.serving.telemetry import BREAKER_OPEN

FAILURES = 5  # in a row
OPEN_S = 0.5
UNBOUND_S = 1.0  # a call outside any stage
EARLY_S = 0.002  # uvloop's timers count whole milliseconds and end a stage up to one before its deadline

T = TypeVar("T")

log = logging.getLogger(__name__)


class Guarded:
    """One peer, for one event loop."""

    def __init__(self, name: str, *, failures: int = FAILURES, open_s: float = OPEN_S) -> None:
        self._name = name
        self._breaker = Breaker(name, failures=failures, open_s=open_s)
        BREAKER_OPEN.labels(peer=name).set_function(lambda: float(self._breaker.state != "closed"))
        self._probe: asyncio.Task[None] | None = None  # held here, or it could be collected while it runs

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives; Unavailable at once while the peer is down."""
        permit = self._breaker.admit()
        if permit.probe:
            self._probe = asyncio.create_task(self._probed(call, permit))
            self._probe.add_done_callback(self._told)
            raise Unavailable(f"{self._name}: down, it is being asked again")
        return await self._judged(call, permit)

    async def _probed(self, call: Callable[[], Awaitable[T]], permit: Permit) -> None:
        """Within the time of the stage that happened to be next: the task inherits its deadline."""
        with suppress(WinnowError, TimeoutError):
            async with asyncio.timeout(remaining_s(UNBOUND_S)):
                await self._judged(call, permit)

    def _told(self, probe: asyncio.Task[None]) -> None:
        """Nobody waits for a probe: a bug in it is said here. The next caller meets it again."""
        if not probe.cancelled() and (bug := probe.exception()):
            log.error("%s: a probe failed", self._name, exc_info=bug)

    async def _judged(self, call: Callable[[], Awaitable[T]], permit: Permit) -> T:
        end = self._breaker.answered
        try:
            return await call()
        except (Unavailable, DeadlineExceeded):
            end = self._breaker.failed
            raise
        except asyncio.CancelledError:  # by the stage, whose time is over, or by a client who left
            end = self._breaker.unknown if remaining_s(UNBOUND_S) > EARLY_S else self._breaker.failed
            raise
        finally:
            end(permit)
