"""Administrative acts, and what whoever answers or administers needs of the audit log; `winnow.audit.ledger` keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from winnow.audit.asked import Asked
from winnow.audit.pseudonyms import Pseudonyms
from winnow.audit.record import Entry
from winnow.errors import WinnowError, status_of
from winnow.serving.telemetry import request_id

T = TypeVar("T")
About = Mapping[str, Any]
Answers = Callable[[Pseudonyms], Sequence[Entry]]
Work = Callable[["Act"], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Act:
    """An administrative act that was begun. `told` is filled while it runs, with what came of it."""

    kind: str
    id: str
    asked: Asked
    told: dict[str, Any] = field(default_factory=dict)


class Audit(Protocol):
    """The audit log as its writers see it."""

    def missed(self, reason: str, answers: int = 1) -> None:
        """These answers are not recorded. Never waits."""
        ...

    def answers(self, number: int, made: Answers) -> None:
        """Record so many answers, or count them. For one thread, not the one that answers."""
        ...

    def begin(self, kind: str, asked: Asked, about: About, act_id: str = "") -> Act:
        """On disk when this returns. DiskFull, Unavailable: it is not; do not go on."""
        ...

    def end(self, act: Act, failed: BaseException | None = None) -> None:
        """How an act ended. Never waits, never fails."""
        ...

    def act(self, kind: str, asked: Asked, about: About) -> AbstractContextManager[Act]:
        """An act in this thread, from `begin` to `end`."""
        ...

    def tend(self) -> bool:
        """What is due now and then, by the thread of `answers`; whether more waits that can be done now."""
        ...

    def close(self) -> None: ...


class Unaudited:
    """`WINNOW_AUDIT=off`: nothing is recorded and nothing refused."""

    def missed(self, reason: str, answers: int = 1) -> None: ...

    def answers(self, number: int, made: Answers) -> None: ...

    def begin(self, kind: str, asked: Asked, about: About, act_id: str = "") -> Act:
        return Act(kind, act_id, asked)

    def end(self, act: Act, failed: BaseException | None = None) -> None: ...

    @contextmanager
    def act(self, kind: str, asked: Asked, about: About) -> Iterator[Act]:
        yield Act(kind, "", asked)

    def tend(self) -> bool:
        return False

    def close(self) -> None: ...


async def acted(audit: Audit, kind: str, asked: Asked, about: About, work: Work[T]) -> T:
    """The result of `work`, which is not begun before that is on disk. `work` gets the act, to tell what came of it."""
    act = await asyncio.to_thread(audit.begin, kind, asked, about, request_id.get())
    try:
        result = await work(act)
    except BaseException as failed:
        audit.end(act, failed)
        raise
    audit.end(act)
    return result


def entry_of(act: Act, phase: str, about: About) -> Entry:
    named = {"phase": phase, "act": act.id, "who": act.asked.who, "route": act.asked.route}
    return Entry(act.kind, {**named, **about})


def slug_of(failed: BaseException) -> str:
    """What kind of error it was: its words may quote what was sent."""
    return status_of(failed).slug if isinstance(failed, WinnowError) else type(failed).__name__
