"""A home as columns: what everyone in training reads.

The acts lie in log order. `Dataset.state` answers what the feature service would have answered at that moment, by
the same function over the same columns (`winnow.acts`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.ingest import IngestSummary, summary_of
from winnow import segments
from winnow.acts import COLUMNS, Acts, Journal, journal, state_of
from winnow.canonical import EVENTS, ITEMS, USERS, items_of
from winnow.errors import FailedPrecondition
from winnow.features import item_digest
from winnow.home import events_folder, items_folder, users_folder
from winnow.seen import fingerprints
from winnow.types import Bits, Item, Person, Strings, UserState

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Impressions:
    """What was shown: columns like the acts', the request it belonged to, and its 1-based place (0: unknown)."""

    user: Rows
    item: Rows
    at: npt.NDArray[np.float64]
    log_position: Rows
    request_id: Strings
    position: Rows

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set (see `load`). `acts.user` is a row of `people`, `acts.item` a row of `items`.

    `positive_value`: a rating from here on, or any cart or purchase, counts as a conversion. `clock` "order" means
    that times are synthetic and only their order is true. `traits` is per person.
    """

    name: str
    clock: Literal["real", "order"]
    protocol: Literal["leave-one-out", "time"]
    positive_value: float
    items: tuple[Item, ...]
    item_ids: Strings
    people: tuple[Person, ...]
    traits: tuple[Mapping[str, str], ...]
    acts: Acts
    impressions: Impressions
    snapshot: str  # hash of the content
    log: Journal

    @property
    def repeats(self) -> bool:
        """People act on the same things again, and on several at once."""
        return self.protocol == "time"

    def acts_of(self, person_row: int) -> Rows:
        """Indices into `acts` of what was done under this person's own id, ascending."""
        return self.log.acts_of(person_row)

    def state(self, person_row: int, before: int) -> UserState:
        """What is known of the person when the acts with index < `before` have happened."""
        row = self.log.owner(person_row, before)
        person = self.people[person_row]
        if row != person_row:
            person = Person(self.people[row].user_id, person.session_id)
        acts = self.acts.take(self.log.history(row, before))
        watermark = int(self.latest[before - 1]) if before else 0
        return state_of(person, self.traits[row], acts, self.item_ids, self.prints, watermark)

    @cached_property
    def prints(self) -> Bits:
        """(items,) fingerprints of the item ids."""
        return fingerprints(self.item_ids)

    @cached_property
    def latest(self) -> Rows:
        """(acts,) log position up to which the log was read when an act had happened."""
        return np.maximum.accumulate(self.acts.log_position)


@dataclass(frozen=True, slots=True)
class Extent:
    """How many rows of each of a home's logs belong to a data set. What is appended later does not."""

    events: int
    items: int
    users: int


def extent_of(home: Path) -> Extent:
    """All that the logs hold now."""
    ends = [segments.segments(folder(home)) for folder in (events_folder, items_folder, users_folder)]
    return Extent(*(found[-1].last if found else 0 for found in ends))


def load(home: Path, extent: Extent | None = None) -> Dataset:
    """Read a home that `training.ingest` made, live events included; with an extent what it held then."""
    about = summary_of(home)
    if about is None:
        raise FailedPrecondition(f"{home.name} holds no data set; run the ingestion first")
    items = items_in(until(segments.whole(items_folder(home), ITEMS), extent.items if extent else None))
    events = first(segments.parts(events_folder(home), EVENTS, COLUMNS), extent.events if extent else None)
    traits = traits_in(until(segments.whole(users_folder(home), USERS), extent.users if extent else None))
    return dataset_of(about, items, events, traits)


def dataset_of(
    about: IngestSummary,
    items: Mapping[str, Item],
    events: pa.Table | Iterable[pa.Table],
    traits: Mapping[str, Mapping[str, str]],
) -> Dataset:
    """The data set of these items by id, of a log (see `winnow.acts.journal`), and of traits by user."""
    log = journal(events, list(items))
    unknown = log.item_ids[len(items) :]
    every = (*items.values(), *(Item(item_id, available=False) for item_id in unknown))
    return Dataset(
        name=about.name,
        clock="real" if about.clock == "real" else "order",
        protocol="time" if about.protocol == "time" else "leave-one-out",
        positive_value=about.positive_value,
        items=every,
        item_ids=log.item_ids,
        people=log.people,
        traits=tuple(traits.get(person.user_id, {}) for person in log.people),
        acts=log.acts,
        impressions=impressions_in(log),
        snapshot=snapshot(log, every),
        log=log,
    )


def until(table: pa.Table, rows: int | None) -> pa.Table:
    return table if rows is None else table.slice(0, rows)


def first(tables: Iterable[pa.Table], rows: int | None) -> Iterator[pa.Table]:
    """The tables' first `rows`; None: all."""
    for table in tables:
        if rows is not None and rows < len(table):
            yield table.slice(0, rows)
            return
        yield table
        rows = None if rows is None else rows - len(table)


def items_in(table: pa.Table) -> dict[str, Item]:
    """The newest version of each item, in the order in which items first came."""
    return {item.item_id: item for item in items_of(table)}


def traits_in(table: pa.Table) -> dict[str, Mapping[str, str]]:
    users, traits = table["user_id"].to_pylist(), table["traits"].to_pylist()
    return {user: dict(own or ()) for user, own in zip(users, traits, strict=True)}


def impressions_in(log: Journal) -> Impressions:
    shown = log.impressions
    return Impressions(shown.user, shown.item, shown.at, shown.log_position, log.request_ids, log.places)


def snapshot(log: Journal, items: tuple[Item, ...]) -> str:
    """16 hex digits of SHA-256 over people, items, acts and impressions."""
    whole = hashlib.sha256()
    for item in items:
        whole.update(item_digest(item).to_bytes(8, "little"))
    for person in log.people:
        whole.update(f"{person.user_id}\0{person.session_id}\0".encode())
    for acts in (log.acts, log.impressions):
        for column in fields(acts):
            whole.update(np.ascontiguousarray(getattr(acts, column.name)).data)
    return whole.hexdigest()[:16]
