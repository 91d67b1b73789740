"""What people did, as columns, and what is known of one person at one moment.

Training and the feature service build a person's state from the same columns by the same function, so a model learns
from exactly what serving will show it. Acts lie in log order: by time, and by place in the log where times are equal.
An impression is not an act.

An anonymous session belongs to a user from the first event that carries both ids, in the order of the log; its acts
stay its own rows, and a state unites the rows of a user with those of their sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

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
BATCH = 1_000_000  # rows of a log that are looked at together
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


def journal(events: pa.Table | Iterable[pa.Table], item_ids: Sequence[str] = ()) -> Journal:
    """Index a log: `events`, whole or in parts, has the columns `COLUMNS`, its rows at positions 1, 2, …

    Item rows follow `item_ids`; ids that only events name come after, in the order of their first event. Of a log in
    parts a million rows are held as texts at a time.
    """
    users, sessions, items, parts = Codes(), Codes(), Codes(item_ids), Parts()
    for table in batches([events] if isinstance(events, pa.Table) else events):
        kinds = type_codes(table["type"])
        parts.add("user", users.of(table["user_id"]))
        parts.add("session", sessions.of(table["session_id"]))
        parts.add("item", items.of(table["item_id"]))
        parts.add("at", times(table["occurred_at"]))
        parts.add("value", numbers(table["value"], np.nan).astype(np.float32))
        parts.add("type", kinds)
        parts.add("quantity", numbers(table["quantity"], 1).astype(np.int64))
        shown = kinds == CODES["impression"]
        parts.add("request_id", texts(table["request_id"].filter(pa.array(shown))))
        parts.add("position", numbers(table["position"], 0).astype(np.int64)[shown])
    return indexed(parts, users.texts, sessions.texts, items.texts)


def indexed(parts: Parts, user_ids: list[str], session_ids: list[str], item_ids: list[str]) -> Journal:
    """The journal of columns in the order of the log. Few columns at a time are held twice."""
    at, kinds, users = parts.whole("at"), parts.whole("type"), parts.whole("user")
    back = (at[1:] < at[:-1]).any()
    places = np.argsort(at, kind="stable") if back else None  # None: the log is in the order of time
    shown = kinds == CODES["impression"]
    request: Rows | slice = slice(None)  # of each impression, in the order of time
    if places is not None:
        number, shown = shown.cumsum() - 1, shown[places]
        request = number[places[shown]]
    links: dict[int, Link] = {}
    if session_ids:
        sessions, order = parts.whole("session"), np.arange(len(at)) if places is None else places
        links = links_of(users, sessions, len(user_ids), order, ~shown)
        users = np.where(users >= 0, users, len(user_ids) + sessions)
    for name, column in (("at", at), ("type", kinds), ("user", users), ("log_position", np.arange(1, len(at) + 1))):
        parts.add(name, column)
    del at, kinds, users, column
    done, seen = {}, {}
    for name in ACTS:
        column = parts.whole(name)[slice(None) if places is None else places]
        done[name], seen[name] = (column[~shown], column[shown]) if shown.any() else (column, column[:0].copy())
    by_person, offsets = grouped(done["user"], len(user_ids) + len(session_ids))
    return Journal(
        user_ids=user_ids,
        session_ids=session_ids,
        item_ids=strings(item_ids),
        acts=Acts(**done),
        impressions=Acts(**seen),
        request_ids=parts.whole("request_id")[request],
        places=parts.whole("position")[request],
        links=links,
        order=by_person,
        offsets=offsets,
        sessions=sessions_of(links),
    )


class Codes:
    """Texts as numbers from 0, the `known` ones first, others in the order of their first appearance in any table."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._code = {text: n for n, text in enumerate(known)}

    @property
    def texts(self) -> list[str]:
        return list(self._code)

    def of(self, column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """(rows,) the number of each text; -1 for null."""
        codes, found = codes_of(column)
        code = self._code
        numbers = np.full(len(found) + 1, -1, np.int32)
        numbers[:-1] = [code.setdefault(text, len(code)) for text in found]
        return numbers[codes]


class Parts:
    """Columns that come in parts, each made whole once; its parts are let go."""

    KINDS: ClassVar[Mapping[str, type[np.generic]]] = {
        **dict.fromkeys(("user", "session", "item", "quantity", "log_position", "position"), np.int64),
        "at": np.float64,
        "value": np.float32,
        "type": np.int8,
        "request_id": np.object_,
    }

    def __init__(self) -> None:
        self._parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self.KINDS}

    def add(self, name: str, part: npt.NDArray[Any]) -> None:
        self._parts[name].append(part)

    def whole(self, name: str) -> npt.NDArray[Any]:
        parts, kind = self._parts[name], self.KINDS[name]
        if len(parts) == 1 and parts[0].dtype == kind:
            return parts.pop()
        column = np.empty(sum(map(len, parts)), kind)
        end = len(column)
        while parts:
            part = parts.pop()
            column[end - len(part) : end] = part
            end -= len(part)
        return column


def batches(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, at most `BATCH` in a table and, where there are as many, not many fewer."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        for start in range(0, len(table), BATCH):
            some = table.slice(start, BATCH)
            if rows + len(some) > BATCH:
                yield pa.concat_tables(waiting)
                waiting, rows = [], 0
            waiting.append(some)
            rows += len(some)
    if waiting:
        yield pa.concat_tables(waiting)


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
    """Each text, "" for null; equal ones are one object."""
    codes, found = codes_of(column)
    return strings([*found, ""])[codes]
