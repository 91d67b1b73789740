"""What was known of people and items at a position of the logs, computed from the whole logs of a home.

Built like a training set, from one journal and by the functions that serving uses, but cut where the log ended then and
not by time: an event that happened before an answer and was written after it was not known to it. Knows nothing of the
running service, whose state grows event by event; the two must come to the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from winnow import segments
from winnow.acts import COLUMNS, Rows, codes_of, journal, state_of
from winnow.canonical import BARE, EVENTS, ITEMS, USERS, items_of
from winnow.errors import FailedPrecondition
from winnow.home import check_complete, events_folder, items_folder, users_folder
from winnow.seen import fingerprints
from winnow.types import Item, Person, UserState

NOBODY = -1  # row of a person that the log does not name


class Known:
    """`events` and `items` are the whole logs, their rows at positions 1, 2, …; `traits` is per user id."""

    def __init__(self, events: pa.Table, items: pa.Table, traits: Mapping[str, Mapping[str, str]]) -> None:
        self.events, self.items = len(events), len(items)  # positions of the newest rows
        self._journal = journal(events)
        self._prints = fingerprints(self._journal.item_ids)
        self._traits = traits
        users = len(self._journal.user_ids)
        self._user_row = {user_id: row for row, user_id in enumerate(self._journal.user_ids)}
        self._session_row = {session_id: users + row for row, session_id in enumerate(self._journal.session_ids)}
        self._linked_at = {users + session: place for session, place in linked(events).items()}
        self._table = items
        self._versions: dict[str, list[int]] = {}  # item id -> positions of its versions, ascending
        for position, item_id in enumerate(items["item_id"].to_pylist(), 1):
            self._versions.setdefault(item_id, []).append(position)
        self._item: dict[int, Item] = {}  # by position

    def state(self, person: Person, position: int) -> UserState:
        """What the feature service had to answer when the log of events ended at `position`."""
        user = self._user_row.get(person.user_id, NOBODY)
        session = self._session_row.get(person.session_id, NOBODY)
        owner = self._owner(session, position)
        if not person.user_id and owner != NOBODY:
            person, user = Person(self._journal.user_ids[owner], person.session_id), owner
        own = [user, *self._sessions(user, position)] if user != NOBODY else []
        if session != NOBODY and owner == NOBODY:
            own.append(session)
        acts = self._journal.acts.take(self._acts(own, position))
        traits = self._traits.get(person.user_id, {})
        return state_of(person, traits, acts, self._journal.item_ids, self._prints, position)

    def item(self, item_id: str, position: int) -> Item | None:
        """The item as it was when the log of items ended at `position`."""
        versions = self._versions.get(item_id, [])
        then = int(np.searchsorted(versions, position, side="right"))
        return self._item_at(versions[then - 1]) if then else None

    def _owner(self, session: int, position: int) -> int:
        """The user of a session, once an event up to `position` said so."""
        known = self._linked_at.get(session, position + 1) <= position
        return self._journal.links[session].user if known else NOBODY

    def _sessions(self, user: int, position: int) -> list[int]:
        return [one for one in self._journal.sessions.get(user, ()) if self._linked_at[one] <= position]

    def _acts(self, people: list[int], position: int) -> Rows:
        """Acts of these rows that are in the log up to `position`, in log order."""
        every: Rows = np.sort(np.concatenate([np.empty(0, np.int64), *map(self._journal.acts_of, people)]))
        return every[np.flatnonzero(self._journal.acts.log_position[every] <= position)]

    def _item_at(self, position: int) -> Item:
        found = self._item.get(position)
        if found is None:
            found = self._item[position] = next(items_of(self._table.slice(position - 1, 1)))
        return found


def linked(events: pa.Table) -> dict[int, int]:
    """Session code -> the position of the first event that carries it together with a user."""
    users, _ = codes_of(events["user_id"])
    sessions, _ = codes_of(events["session_id"])
    both = np.flatnonzero((users >= 0) & (sessions >= 0))
    named, first = np.unique(sessions[both], return_index=True)
    return {int(session): int(both[place]) + 1 for session, place in zip(named, first, strict=True)}


def known_in(home: Path) -> Known:
    """Of a home, whose service may be running. FailedPrecondition: it holds no events, or an ingestion was interrupted;
    `segments.Damaged` when a log is."""
    check_complete(home)
    if not events_folder(home).is_dir():
        raise FailedPrecondition(f"{home}: holds no event log")
    events = segments.whole(events_folder(home), EVENTS, COLUMNS)
    people = segments.whole(users_folder(home), USERS)
    pairs = zip(people["user_id"].to_pylist(), people["traits"].to_pylist(), strict=True)
    traits = {user_id: dict(own or ()) for user_id, own in pairs}
    return Known(events, segments.whole(items_folder(home), ITEMS, BARE), traits)
