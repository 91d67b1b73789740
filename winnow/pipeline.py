"""Runs one stage of a request: budget, metric, span, skip or fail. Stages themselves know none of these."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from winnow.errors import DeadlineExceeded, InvalidArgument, NotFound, WinnowError
from winnow.tracing import NOT_RECORDED, Span, span

T = TypeVar("T")

log = logging.getLogger(__name__)

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)  # on the clock of time.monotonic


def deadline_in(seconds: float | None) -> None:
    """The current task, and what it calls, must be done in `seconds`; None lifts the limit."""
    _deadline.set(None if seconds is None else time.monotonic() + seconds)


def remaining_s(otherwise: float) -> float:
    """Seconds until the running stage's deadline, or `otherwise` where there is none; never negative."""
    deadline = _deadline.get()
    return otherwise if deadline is None else max(deadline - time.monotonic(), 0.0)


class StageObserver(Protocol):
    """Where a stage's outcome is counted; `outcome` is ok, skipped or failed."""

    def __call__(self, stage: str, seconds: float, outcome: str) -> None: ...


def ignore(stage: str, seconds: float, outcome: str) -> None:
    """An observer that counts nothing."""


@dataclass(slots=True)
class Run:
    """One request on its way through the stages. `took_ms` and `skipped` become part of the answer."""

    observe: StageObserver = ignore
    took_ms: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    async def required(self, stage: str, work: Awaitable[T], budget_s: float) -> T:
        """The stage's result; DeadlineExceeded past the budget, its own error when it fails."""
        started, part = time.perf_counter(), span(stage)
        outcome = "failed"
        try:
            result = await self._within(budget_s, work)
            outcome = "ok"
            return result
        except TimeoutError as late:
            raise DeadlineExceeded(f"{stage} took longer than {budget_s * 1000:.0f} ms") from late
        finally:
            self._note(stage, started, part, outcome)

    async def optional(self, stage: str, work: Awaitable[T], budget_s: float, instead: Callable[[], T]) -> T:
        """The stage's result, or `instead()` when it fails or is late; then `skipped` names it.

        Only the platform's own errors and time-outs are survived. What the caller did wrong is told to the caller,
        and any other exception is a bug that fails loudly.
        """
        started, part = time.perf_counter(), span(stage)
        outcome = "failed"
        try:
            result = await self._within(budget_s, work)
            outcome = "ok"
            return result
        except (InvalidArgument, NotFound):
            raise
        except (WinnowError, TimeoutError) as lost:
            outcome = "skipped"
            self.skipped.append(stage)
            log.warning("%s skipped: %s", stage, lost if str(lost) else f"later than {budget_s * 1000:.0f} ms")
            return instead()
        finally:
            self._note(stage, started, part, outcome)

    @contextmanager
    def step(self, stage: str) -> Iterator[None]:
        """A stage that runs right here and cannot be skipped."""
        started, part = time.perf_counter(), span(stage)
        outcome = "failed"
        try:
            yield
            outcome = "ok"
        finally:
            self._note(stage, started, part, outcome)

    async def _within(self, budget_s: float, work: Awaitable[T]) -> T:
        """Await `work` within the budget, which calls to peers inherit as their deadline."""
        before = _deadline.set(time.monotonic() + min(budget_s, remaining_s(budget_s)))
        try:
            async with asyncio.timeout(budget_s):
                return await work
        finally:
            _deadline.reset(before)

    def _note(self, stage: str, started: float, part: Span, outcome: str) -> None:
        seconds = time.perf_counter() - started
        self.took_ms[stage] = self.took_ms.get(stage, 0.0) + seconds * 1000
        self.observe(stage, seconds, outcome)
        if part is not NOT_RECORDED:
            part.end({"winnow.outcome": outcome}, "" if outcome == "ok" else outcome)
