"""What is known of people while the feature service is away: their hot states, which it wrote to Redis with every event.

The answer's watermark is never above what a state includes, so no token is said to be included that is not. Whom Redis
does not know is unknown here too. (Redis must not evict: what it drops silently would count as never done.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Protocol

import numpy as np

from winnow.hot_state import ACTS, HotState, LastActs
from winnow.hot_store import HotStore
from winnow.tracing import Kind, span
from winnow.types import Person, UserState

Known = Mapping[Person, HotState | str]


class StandIn(Protocol):
    """Somebody who knows people when the feature service does not answer."""

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        """One state per person, in their order; Unavailable or DeadlineExceeded where this one is away as well."""
        ...


class HotStates:
    """The hot states of one Redis. `timeout_s` bounds the wait for each of its answers."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._store = HotStore(url, timeout_s)
        self._thread = ThreadPoolExecutor(1, "winnow-stand-in")

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        with span("redis.known", Kind.CLIENT, {"db.system.name": "redis", "db.operation.batch.size": len(people)}):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, people)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._store.close()

    def _read(self, people: Sequence[Person]) -> list[UserState]:
        mark, known = self._store.known(parts_of(people))
        owners = {Person(kept) for kept in known.values() if isinstance(kept, str)}
        if owners - known.keys():
            later, theirs = self._store.known(list(owners - known.keys()))
            known |= theirs if mark and later and mark.log == later.log else {}
        return [state_of(person, known, mark.position if mark else 0) for person in people]


def parts_of(people: Sequence[Person]) -> list[Person]:
    """The users and the sessions among them, each by itself."""
    users = {Person(person.user_id) for person in people if person.user_id}
    sessions = {Person(session_id=person.session_id) for person in people if person.session_id}
    return [*users, *sessions]


def state_of(person: Person, known: Known, complete: int) -> UserState:
    """The person's state, as the feature service puts it together; everything up to `complete` is known."""
    session = known.get(Person(session_id=person.session_id)) if person.session_id else None
    if not person.user_id and isinstance(session, str):
        person = Person(session, person.session_id)
    own = known.get(Person(person.user_id)) if person.user_id else None
    states = [state for state in (own, session) if isinstance(state, HotState)]
    if not states:
        return UserState(person, watermark=complete)
    if len(states) == 1:  # a state says how far it goes, unless it may be only half of the person
        whole = not (person.user_id and person.session_id) or isinstance(session, str)
        return states[0].user_state(person, max(complete, states[0].position) if whole else complete)
    user, alone = states
    return (user if holds(user, alone) else joined(user, alone)).user_state(person, complete)


def holds(user: HotState, session: HotState) -> bool:
    """Whether a user's state has the session's acts already: it is written before the link that says so."""
    return bool(np.isin(session.acts.positions, user.acts.positions).any())


def joined(user: HotState, session: HotState) -> HotState:
    """A user, and the session that nobody has given to them yet."""
    columns = {
        column.name: np.concatenate([getattr(user.acts, column.name), getattr(session.acts, column.name)])
        for column in fields(LastActs)
    }
    order = np.lexsort((columns["positions"], columns["at"]))[-ACTS:]
    earlier = user.seen[~np.isin(user.seen, session.seen)]
    return replace(
        user,
        acts=LastActs(**{name: column[order] for name, column in columns.items()}),
        counts=tuple(np.add(user.counts, session.counts).tolist()),
        seen=np.concatenate([earlier, session.seen]),
        seen_tail=np.union1d(user.seen_tail, session.seen_tail),
    )
