"""What people did, as columns, and what is known of one person at one moment.

Training and the feature service build a person's state from the same columns by the same function, so a model learns
from exactly what serving will show it. Acts lie in log order: by time, and by place in the log where times are equal.
An impression is not an act.

An anonymous session belongs to a user from the first event that carries both ids, in the order of the log; its acts
stay its own rows, and a state unites the rows of a user with those of their sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from winnow.seen import EXACT
from winnow.types import HISTORY, Bits, EventType, Floats, History, Person, Strings, UserState, same_length, strings

Rows = npt.NDArray[np.int64]
TYPES = tuple(EventType)
CODES = {kind.value: code for code, kind in enumerate(TYPES)}
NAMES = strings([kind.value for kind in TYPES])
COLUMNS = ("type", "item_id", "occurred_at", "user_id", "session_id", "value", "quantity", "request_id", "position")
"""The columns of `winnow.canonical.EVENTS` that a journal reads."""


@dataclass(frozen=True, slots=True, eq=False)
class Acts:
    """Columns of equal length in log order. `user` and `item` are rows of tables that their holder names."""

    user: Rows
    item: Rows
    at: npt.NDArray[np.float64]  # seconds since 1970
    value: Floats  # NaN where the event had none
    type: npt.NDArray[np.int8]  # place in TYPES
    quantity: Rows
    log_position: Rows

    def __post_init__(self) -> None:
        same_length(**{name: getattr(self, name) for name in ACTS})

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Rows | slice) -> Acts:
        """The same columns restricted to `rows`."""
        return Acts(*[getattr(self, name)[rows] for name in ACTS])


ACTS = tuple(column.name for column in fields(Acts))


def united(parts: Sequence[Acts]) -> Acts:
    """Several columns as one, in log order; one at least."""
    some = [part for part in parts if len(part)] or parts[:1]
    if len(some) == 1:
        return some[0]
    every = Acts(*[np.concatenate([getattr(part, name) for part in some]) for name in ACTS])
    later = np.diff(every.at)
    if ((later > 0) | (later == 0) & (np.diff(every.log_position) > 0)).all():
        return every
    return every.take(np.lexsort((every.log_position, every.at)))


def state_of(
    person: Person, traits: Mapping[str, str], acts: Acts, item_ids: Strings, prints: Bits, watermark: int
) -> UserState:
    """The state of one person from all their acts, which are in log order.

    `item_ids` and `prints` (fingerprints) are per item row. `seen` holds the newest `EXACT` distinct items, the one
    acted on last at the end; `seen_tail` the fingerprints of the others, ascending. A person is known by an act or a
    trait.
    """
    newest = slice(-HISTORY, None)
    history = History(item_ids[acts.item[newest]], NAMES[acts.type[newest]], acts.value[newest], acts.at[newest])
    seen = distinct(acts.item)
    return UserState(
        person=person,
        known=bool(len(acts) or traits),
        traits=traits,
        history=history,
        seen=item_ids[seen[-EXACT:]],
        seen_tail=np.unique(prints[seen[:-EXACT]]),
        events=len(acts),
        watermark=watermark,
    )


def distinct(rows: Rows) -> Rows:
    """The distinct values, each at the place where it comes last."""
    _, from_end = np.unique(rows[::-1], return_index=True)
    return rows[np.sort(len(rows) - 1 - from_end)]


@dataclass(frozen=True, slots=True)
class Link:
    """A session's user, known to a state before act `since` and later ones."""

    user: int
    since: int


@dataclass(frozen=True, eq=False)
class Journal:
    """A log of events as columns: who (a row per user, then per session), what (`item_ids`), and each one's acts.

    `order[offsets[p]:offsets[p + 1]]` are the acts of person row p, ascending.
    """

    user_ids: list[str]
    session_ids: list[str]
    item_ids: Strings
    acts: Acts
    impressions: Acts
    request_ids: Strings  # of the impressions; "" where there is none
    places: Rows  # of the impressions: 1-based place on the page; 0 where unknown
    links: Mapping[int, Link]  # session row -> its user
    order: Rows
    offsets: Rows
    sessions: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # user row -> linked session rows

    @cached_property
    def people(self) -> tuple[Person, ...]:
        """The person of each row."""
        users = (Person(user_id=user_id) for user_id in self.user_ids)
        return (*users, *(Person(session_id=session_id) for session_id in self.session_ids))

    def acts_of(self, row: int) -> Rows:
        """Acts under this row's own id, ascending."""
        return self.order[self.offsets[row] : self.offsets[row + 1]]

    def owner(self, row: int, before: int) -> int:
        """The row whose state this person has: a session's user, once that is known."""
        link = self.links.get(row)
        return link.user if link is not None and link.since <= before else row

    def history(self, row: int, before: int) -> Rows:
        """Acts before `before` of a person and of their sessions known by then, ascending."""
        own = self.acts_of(row)
        sessions = [s for s in self.sessions.get(row, ()) if self.links[s].since <= before]
        if sessions:
            own = np.sort(np.concatenate([own, *(self.acts_of(s) for s in sessions)]))
        return own[: np.searchsorted(own, before)]


def journal(events: pa.Table, item_ids: Sequence[str] = ()) -> Journal:
    """Index a log: `events` has the columns `COLUMNS`, its rows at positions 1, 2, …

    Item rows follow `item_ids`; ids that only events name come after, in the order of their first event.
    """
    user_codes, user_ids = codes_of(events["user_id"])
    session_codes, session_ids = codes_of(events["session_id"])
    item_codes, named = codes_of(events["item_id"])
    rows, ids = rows_of(named, item_ids)
    who = np.where(user_codes >= 0, user_codes, len(user_ids) + session_codes)
    every = Acts(
        user=who,
        item=rows[item_codes] if len(rows) else item_codes,
        at=times(events["occurred_at"]),
        value=numbers(events["value"], np.nan).astype(np.float32),
        type=type_codes(events["type"]),
        quantity=numbers(events["quantity"], 1).astype(np.int64),
        log_position=np.arange(1, len(who) + 1),
    )
    order = np.argsort(every.at, kind="stable")
    every = every.take(order)
    act = every.type != CODES["impression"]
    links = links_of(user_codes, session_codes, len(user_ids), order, act)
    acts = every.take(np.flatnonzero(act))
    shown = order[~act]
    by_person, offsets = grouped(acts.user, len(user_ids) + len(session_ids))
    return Journal(
        user_ids=user_ids,
        session_ids=session_ids,
        item_ids=ids,
        acts=acts,
        impressions=every.take(np.flatnonzero(~act)),
        request_ids=texts(events["request_id"].take(pa.array(shown))),
        places=numbers(events["position"], 0).astype(np.int64)[shown],
        links=links,
        order=by_person,
        offsets=offsets,
        sessions=sessions_of(links),
    )


def links_of(users: Rows, sessions: Rows, n_users: int, order: Rows, act: npt.NDArray[np.bool_]) -> dict[int, Link]:
    """Session row -> link, from the first event in the log that carries both ids.

    `users` and `sessions` are codes in the order of the log, `order` sorts them by time, `act` is in that time order.
    """
    both = np.flatnonzero((users >= 0) & (sessions >= 0))
    if not len(both):
        return {}
    session, first = np.unique(sessions[both], return_index=True)
    when = np.empty(len(order), np.int64)
    when[order] = np.arange(len(order))
    since = np.cumsum(act)[when[both[first]]]
    user = users[both[first]]
    return {n_users + int(s): Link(int(u), int(k)) for s, u, k in zip(session, user, since, strict=True)}


def sessions_of(links: Mapping[int, Link]) -> dict[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {}
    for session, link in links.items():
        found[link.user] = (*found.get(link.user, ()), session)
    return found


def grouped(keys: Rows, groups: int) -> tuple[Rows, Rows]:
    """Rows ordered by key, first come first, and (groups + 1,) offsets into that order."""
    offsets = np.zeros(groups + 1, np.int64)
    np.cumsum(np.bincount(keys, minlength=groups), out=offsets[1:])
    return np.argsort(keys, kind="stable"), offsets


def rows_of(named: Sequence[str], known: Sequence[str]) -> tuple[Rows, Strings]:
    """Row of each named id in `known` followed by the ids it lacks, and all ids by row."""
    row = {item_id: n for n, item_id in enumerate(known)}
    rows = np.fromiter((row.setdefault(i, len(row)) for i in named), np.int64, count=len(named))
    return rows, strings(list(row))


def codes_of(column: pa.ChunkedArray) -> tuple[Rows, list[str]]:
    """A text column as codes (-1 for null) and the texts they stand for, in order of first appearance."""
    encoded = pa.chunked_array(column).combine_chunks().dictionary_encode() if len(column) else None
    if encoded is None:
        return np.empty(0, np.int64), []
    whole = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = pc.fill_null(whole.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return codes, whole.dictionary.to_pylist()


def type_codes(column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    codes, found = codes_of(column)
    return np.asarray([CODES[name] for name in found], np.int8)[codes] if found else np.empty(0, np.int8)


def times(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Microsecond time stamps as seconds since 1970, rounded like `datetime.timestamp`."""
    return np.asarray(column.cast(pa.int64()).to_numpy() / 1e6, np.float64)


def numbers(column: pa.ChunkedArray, default: float) -> npt.NDArray[np.float64]:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float(default)).to_numpy(), np.float64)


def texts(column: pa.ChunkedArray) -> Strings:
    return strings(pc.fill_null(column, "").to_pylist())
