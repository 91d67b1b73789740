"""The offline side of the feature store: every stored view as Parquet, one row per entity and moment of change.

`python -m training.offline HOME` writes them; Feast's file source and `training.as_of` read them. A row says what was
known once everything up to `event_timestamp` had happened, by the same code that serves. `created` is when the log can
have held it at the earliest: the newest time among the entity's acts up to the last one, in the log's order, that the row
rests on; an act that came late makes a row whose `created` is later than its time. Both are UTC, in microseconds.

Every user's and item's rows begin in 1970 with one that says that nothing had happened yet: Feast's file store leaves out
of its answers who is known only later.

Traits and items carry no time of writing: a trait holds from the beginning, and an item's newest version from the item's
`created_at` on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from training.dataset import Dataset, items_in, load, traits_in
from winnow import segments
from winnow.acts import TYPES, Rows, grouped
from winnow.canonical import ITEMS, TIME, USERS
from winnow.feature_views import (
    ITEM_POPULARITY,
    ITEM_STATIC,
    SESSION_ACTIVITY,
    USER_ACTIVITY,
    USER_PROFILE,
    VIEWS,
    Cell,
    StoredView,
)
from winnow.features import DAY_S, ItemStats, ItemView, UserView, item_stats
from winnow.home import feature_file
from winnow.types import Context, Item, Person, UserState

BATCH = 20_000  # rows held at a time
TYPES_OF = {"string": pa.string(), "string_list": pa.list_(pa.string()), "double": pa.float64()}

Times = npt.NDArray[np.float64]
Known = tuple[str, float, float, list[Cell]]
"""Key, event time and time of creation in seconds since 1970, features."""


def schema_of(view: StoredView) -> pa.Schema:
    features = [pa.field(name, TYPES_OF[view.dtype(name)]) for name in view.features]
    times = [pa.field("event_timestamp", TIME, nullable=False), pa.field("created", TIME, nullable=False)]
    return pa.schema([pa.field(view.key, pa.string(), nullable=False), *features, *times])


def write(home: Path) -> dict[str, int]:
    """Write all views of a home, each all or nothing; returns rows by view."""
    data = load(home)
    rows: dict[str, Iterator[Known]] = {
        USER_PROFILE.name: profiles(home),
        USER_ACTIVITY.name: activity(data, USER_ACTIVITY),
        SESSION_ACTIVITY.name: activity(data, SESSION_ACTIVITY),
        ITEM_STATIC.name: statics(home),
        ITEM_POPULARITY.name: popularity(data),
    }
    return {view.name: write_view(feature_file(home, view.name), view, rows[view.name]) for view in VIEWS}


def write_view(file: Path, view: StoredView, rows: Iterable[Known]) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    written = 0
    with pq.ParquetWriter(part, schema_of(view), compression="zstd") as writer:
        rows = iter(rows)
        while some := list(islice(rows, BATCH)):
            writer.write_table(table_of(view, some))
            written += len(some)
    part.replace(file)
    return written


def table_of(view: StoredView, rows: Iterable[Known]) -> pa.Table:
    keys, events, created, features = zip(*rows, strict=True)
    columns = zip(*features, strict=True)
    return pa.table([keys, *columns, micros(events), micros(created)], schema=schema_of(view))


def micros(seconds: Iterable[float]) -> pa.Array:
    return pa.array([round(second * 1e6) for second in seconds], pa.int64()).cast(TIME)


# ---------------------------------------------------------------------------------------------- rows


def no_item(item_id: str) -> None:
    """No item is known: of somebody without a history none is asked for."""


def arrivals(at: Times, log_position: Rows) -> Times:
    """(n,) when each of one entity's acts can have been in the log at the earliest: the newest time so far."""
    place = np.argsort(log_position)
    newest = np.empty(len(at), np.float64)
    newest[place] = np.maximum.accumulate(at[place])
    return newest


def profiles(home: Path) -> Iterator[Known]:
    traits = traits_in(segments.whole(home / "log" / "users", USERS))
    for user_id, own in traits.items():
        state = UserState(Person(user_id=user_id), known=True, traits=own)
        yield user_id, 0.0, 0.0, USER_PROFILE.row(UserView(state, Context(), no_item))


def activity(data: Dataset, view: StoredView) -> Iterator[Known]:
    """Rows of people with a user id, or of sessions while nobody knows their user."""
    items = {item.item_id: item for item in data.items}
    for row, person in enumerate(data.people):
        if bool(person.user_id) == (view.entity == "user"):
            yield from moments(data, view, items, row)


def moments(data: Dataset, view: StoredView, items: Mapping[str, Item], row: int) -> Iterator[Known]:
    """One person before they did anything, and after each moment at which they did something."""
    yield nothing_yet(data, view, row)
    own = data.log.history(row, len(data.acts))
    times = data.acts.at[own]
    created = np.maximum.accumulate(arrivals(times, data.acts.log_position[own]))
    person = data.people[row]
    for last in np.flatnonzero(np.diff(times, append=np.inf)):
        at = float(times[last])
        before = int(np.searchsorted(data.acts.at, at, side="right"))
        if data.log.owner(row, before) == row:
            state = data.state(row, before)
            features = view.row(UserView(state, Context(), items.get))
            yield person.user_id or person.session_id, at, float(created[last]), features


def nothing_yet(data: Dataset, view: StoredView, row: int) -> Known:
    person = data.people[row]
    return person.user_id or person.session_id, 0.0, 0.0, view.row(UserView(data.state(row, 0), Context(), no_item))


def statics(home: Path) -> Iterator[Known]:
    for item in items_in(segments.whole(home / "log" / "items", ITEMS)).values():
        since = item.created_at.timestamp()
        if since > 0:
            yield item.item_id, 0.0, 0.0, [None] * len(ITEM_STATIC.features)
        yield item.item_id, since, since, ITEM_STATIC.row(ItemView(item))


def popularity(data: Dataset) -> Iterator[Known]:
    """Items at the end of each UTC day on which somebody acted on them, from all acts before that midnight."""
    yield from ((item.item_id, 0.0, 0.0, ITEM_POPULARITY.row(ItemView(item))) for item in data.items)
    acts = data.acts
    rated = np.where(acts.type == TYPES.index("rating"), acts.value, np.float32(np.nan))
    days = np.floor(acts.at / DAY_S).astype(np.int64)
    arrived = np.empty(len(acts), np.float64)
    order, offsets = grouped(acts.item, len(data.items))
    for own in np.split(order, offsets[1:-1]):
        arrived[own] = arrivals(acts.at[own], acts.log_position[own])
    newest = np.zeros(len(data.items), np.float64)
    for day in np.unique(days):
        begins, ends = np.searchsorted(days, (day, day + 1))
        midnight = float((day + 1) * DAY_S)
        before = np.nextafter(midnight, 0.0)
        columns = item_stats(acts.item[:ends], acts.at[:ends], rated[:ends], len(data.items), before)
        np.maximum.at(newest, acts.item[begins:ends], arrived[begins:ends])
        for row in np.unique(acts.item[begins:ends]):
            stats = ItemStats(*(float(columns[name][row]) for name in ("count", "recent", "mean_value")))
            item = data.items[row]
            yield (
                item.item_id,
                midnight,
                max(midnight, float(newest[row])),
                ITEM_POPULARITY.row(ItemView(item, stats, midnight)),
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.offline", description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    for view, rows in write(parser.parse_args().home).items():
        print(f"{view}: {rows:,} rows")


if __name__ == "__main__":
    main()
