"""What is known of people, in memory: the log as columns when the process starts, and what came since beside it.

A person's acts lie in one row of the columns and in one small table of newer acts; a state is made from both when
asked for. Sessions join their user as `winnow.acts` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from winnow.acts import CODES, Acts, Journal, Rows, state_of, united
from winnow.seen import fingerprint, fingerprints
from winnow.types import Event, EventType, Person, Strings, UserState, strings

NOTHING = Acts(
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.float64),
    np.empty(0, np.float32),
    np.empty(0, np.int8),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
)


class People:
    """States by person. `watermark` is the log position up to which they are complete, `newest_at` when the newest event
    happened, seconds since 1970."""

    def __init__(self, log: Journal, traits: Mapping[str, Mapping[str, str]]) -> None:
        self.watermark = len(log.acts) + len(log.impressions)
        self.newest_at = max((float(some.at.max()) for some in (log.acts, log.impressions) if len(some)), default=0.0)
        self._log = log
        self._traits = traits
        users = len(log.user_ids)
        self._user_row = {user_id: row for row, user_id in enumerate(log.user_ids)}
        self._session_row = {session_id: users + row for row, session_id in enumerate(log.session_ids)}
        self._rows = users + len(log.session_ids)
        self._logged_rows = self._rows
        self._user_id = dict(enumerate(log.user_ids))
        self._user_of = {session: link.user for session, link in log.links.items()}
        self._sessions = {user: list(sessions) for user, sessions in log.sessions.items()}
        self._item_row = {item_id: row for row, item_id in enumerate(log.item_ids)}
        self._items = len(log.item_ids)
        self._item_ids = log.item_ids
        self._prints = fingerprints(log.item_ids)
        self._newer: dict[int, Acts] = {}  # person row -> acts since the process started, in log order
        self._newest: dict[int, list[tuple[float, ...]]] = {}  # and those that no state was made of yet
        self._linked: dict[int, int] = {}  # session row -> log position, of links made since the process started

    def state(self, person: Person) -> UserState:
        """What is known of them now."""
        return self.state_from(*self.acts(person))

    def state_from(self, person: Person, acts: Acts) -> UserState:
        """The state that `acts` of this person make."""
        traits = self._traits.get(person.user_id, {})
        return state_of(person, traits, acts, self._item_ids, self._prints, self.watermark)

    def acts(self, person: Person) -> tuple[Person, Acts]:
        """Their acts in log order, and who they are: a session's user may be known."""
        user = self._user_row.get(person.user_id, -1)
        session = self._session_row.get(person.session_id, -1)
        owner = self._user_of.get(session, -1)
        if not person.user_id and owner >= 0:
            person, user = Person(self._user_id[owner], person.session_id), owner
        rows = [user, *self._sessions.get(user, ())] if user >= 0 else []
        if session >= 0 and owner < 0:
            rows.append(session)  # a session that comes with a user for the first time, or has none
        return person, united([NOTHING, *(part for row in rows for part in self._acts_of(row))])

    def apply(self, events: Sequence[Event], last: int) -> None:
        """Take events that are on disk; `last` is the log position of the last one."""
        for position, event in enumerate(events, last - len(events) + 1):
            row = self._row(event, position)
            if event.type is not EventType.IMPRESSION:
                self._newest.setdefault(row, []).append(self._columns(row, event, position))
            self.newest_at = max(self.newest_at, event.occurred_at.timestamp())
        self.watermark = max(self.watermark, last)

    def item_ids(self, rows: Rows) -> Strings:
        """The items of acts."""
        return self._item_ids[rows]

    def touched(self, event: Event) -> Iterator[Person]:
        """Whose states an event changes: the user's, where one is known, and the session's own."""
        owner = self._user_of.get(self._session_row.get(event.session_id, -1), -1)
        if event.user_id:
            yield Person(event.user_id)
        elif owner >= 0:
            yield Person(self._user_id[owner])
        if event.session_id:
            yield Person(session_id=event.session_id)

    def acted_after(self, position: int) -> list[Person]:
        """Everybody whose state a record after this log position changed. Looks at all, which takes a while."""
        logged = (self._log.acts, self._log.impressions)
        rows = {row for some in logged for row in some.user[some.log_position > position].tolist()}
        rows.update(row for row in {*self._newer, *self._newest} if self._newest_position(row) > position)
        rows.update(session for session, linked in self._linked.items() if linked > position)
        rows.update(self._user_of[row] for row in tuple(rows) if row in self._user_of)
        rows.update(session for user in tuple(rows) for session in self._sessions.get(user, ()))
        users = [Person(user_id) for user_id, row in self._user_row.items() if row in rows]
        return users + [Person(session_id=session) for session, row in self._session_row.items() if row in rows]

    def _newest_position(self, row: int) -> int:
        """Of an act since the process started."""
        waiting = max((int(act[-1]) for act in self._newest.get(row, ())), default=0)
        return max(waiting, int(self._newer[row].log_position.max()) if row in self._newer else 0)

    def _acts_of(self, row: int) -> Iterable[Acts]:
        if row < self._logged_rows:
            yield self._log.acts.take(self._log.acts_of(row))
        if row in self._newest:
            self._newer[row] = united([self._newer.get(row, NOTHING), as_acts(self._newest.pop(row))])
        if row in self._newer:
            yield self._newer[row]

    def _row(self, event: Event, position: int) -> int:
        """The row of whoever acted; an event with both ids gives the session to the user, unless it has one."""
        user = self._new_row(self._user_row, event.user_id) if event.user_id else -1
        session = self._new_row(self._session_row, event.session_id) if event.session_id else -1
        if user >= 0:
            self._user_id[user] = event.user_id
        if user >= 0 and session >= 0 and session not in self._user_of:
            self._user_of[session] = user
            self._sessions.setdefault(user, []).append(session)
            self._linked[session] = position
        return user if user >= 0 else session

    def _new_row(self, rows: dict[str, int], key: str) -> int:
        row = rows.setdefault(key, self._rows)
        self._rows += row == self._rows
        return row

    def _columns(self, row: int, event: Event, position: int) -> tuple[float, ...]:
        value = math.nan if event.value is None else event.value
        at, kind = event.occurred_at.timestamp(), CODES[event.type.value]
        return row, self._item(event.item_id), at, value, kind, event.quantity, position

    def _item(self, item_id: str) -> int:
        row = self._item_row.setdefault(item_id, self._items)
        if row == self._items:
            self._grow(row + 1)
            self._item_ids[row], self._prints[row] = item_id, fingerprint(item_id)
            self._items += 1
        return row

    def _grow(self, size: int) -> None:
        if size > len(self._item_ids):
            room = max(1024, len(self._item_ids))
            self._item_ids = np.concatenate([self._item_ids, strings([""] * room)])
            self._prints = np.concatenate([self._prints, np.zeros(room, np.uint32)])


def as_acts(rows: Sequence[tuple[float, ...]]) -> Acts:
    """Acts from tuples in the order of `Acts`'s columns."""
    user, item, at, value, kind, quantity, position = zip(*rows, strict=True)
    one = Acts(
        np.asarray(user, np.int64),
        np.asarray(item, np.int64),
        np.asarray(at, np.float64),
        np.asarray(value, np.float32),
        np.asarray(kind, np.int8),
        np.asarray(quantity, np.int64),
        np.asarray(position, np.int64),
    )
    return one.take(np.lexsort((one.log_position, one.at)))
