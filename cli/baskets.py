"""A past told to a running platform by its REST face: items and prices day by day, baskets in the order of time, and after
each basket a question by whoever filled it. Knows addresses and JSON, no service."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import httpx
import numpy as np
import pyarrow as pa

from winnow import segments
from winnow.acts import times
from winnow.canonical import EVENTS, item_row
from winnow.errors import Unavailable
from winnow.features import DAY_S
from winnow.home import events_folder
from winnow.image_vectors import unpacked
from winnow.types import MAX_EVENTS, MAX_ITEMS, Item

if TYPE_CHECKING:
    from training.past import Past

LANES = 4  # people who act at the same time
TIMEOUT_S = 60.0
ASKED_AFTER = timedelta(seconds=90)  # a basket
AT_ONCE = 10  # items on a page
WITH_IMAGES = 40  # items of a call that has the widest vectors and stays below the largest body

Row = dict[str, Any]
"""An event as the log keeps it."""


@dataclass
class Told:
    """What the platform took, and how often which stage was skipped."""

    events: int = 0
    items: int = 0
    answers: int = 0
    last: str = ""  # the day that was begun last
    skipped: Counter[str] = field(default_factory=Counter)


class Log:
    """All events of a home, each with its id and context."""

    def __init__(self, home: Path) -> None:
        self._events: pa.Table = segments.whole(events_folder(home), EVENTS)
        self._at = times(self._events["occurred_at"])

    def before(self, moment: float) -> pa.Table:
        """What happened before a moment, in the order of the log."""
        return self._events.filter(pa.array(self._at < moment))

    def days(self, start: float) -> Iterator[tuple[float, list[Row]]]:
        """From a moment on in the order of time, what has one time as in the log: by day, with its first moment."""
        rows = np.flatnonzero(self._at >= start)
        rows = rows[np.argsort(self._at[rows], kind="stable")]
        day_of = self._at[rows] // DAY_S
        for day in np.unique(day_of):
            yield float(day * DAY_S), self._events.take(pa.array(rows[day_of == day])).to_pylist()


def tell(past: Past, log: Log, start: float, address: str, until: float, told: Told) -> None:
    """Everything from `start` on, until it is over or the monotonic clock reads `until`, to a platform that knows what was
    known then. Unavailable when it refuses something."""
    items = {item.item_id: item for item in past.items(start)}
    clients = [httpx.Client(base_url=address, timeout=TIMEOUT_S, trust_env=False) for _ in range(LANES)]
    lock = threading.Lock()
    with ThreadPoolExecutor(LANES) as lanes:
        for day, rows in log.days(start):
            if time.monotonic() > until:
                break
            told.last = datetime.fromtimestamp(day, UTC).date().isoformat()
            put(clients[0], changed(past, day + DAY_S, items), told)
            own = [[row for row in rows if lane_of(row) == lane] for lane in range(LANES)]
            list(lanes.map(partial(lane, until=until, told=told, lock=lock), clients, own))
    for client in clients:
        client.close()


def changed(past: Past, moment: float, known: dict[str, Item]) -> list[Item]:
    """Items that are new at a moment or cost something else; they are known from here on."""
    found = [item for item in past.items(moment) if known.get(item.item_id) != item]
    known.update((item.item_id, item) for item in found)
    return found


def put(client: httpx.Client, items: Sequence[Item], told: Told) -> None:
    at_most = WITH_IMAGES if any(item.image_vector for item in items) else MAX_ITEMS
    for first in range(0, len(items), at_most):
        some = [plain(item_row(item)) for item in items[first : first + at_most]]
        posted(client, "/v1/items:batch", {"items": some})
        told.items += len(some)


def lane_of(row: Row) -> int:
    """One person's baskets are one after the other."""
    return crc32((row["user_id"] or row["session_id"]).encode()) % LANES


def lane(client: httpx.Client, rows: Sequence[Row], *, until: float, told: Told, lock: threading.Lock) -> None:
    """One day of some people."""
    for (user_id, session_id, at), basket in groupby(rows, key=basket_of):
        if time.monotonic() > until:
            return
        events = [plain(row) for row in basket]
        for first in range(0, len(events), MAX_EVENTS):
            receipt = posted(client, "/v1/events", {"events": events[first : first + MAX_EVENTS]})
        answer = posted(client, "/v1/recommendations", question(user_id, session_id, at, receipt["token"]))
        with lock:
            told.events += len(events)
            told.answers += 1
            told.skipped.update(answer["skipped"])


def basket_of(row: Row) -> tuple[str, str, datetime]:
    return row["user_id"] or "", row["session_id"] or "", row["occurred_at"]


def question(user_id: str, session_id: str, at: datetime, token: str) -> Row:
    return {
        "user_id": user_id,
        "session_id": session_id,
        "n": AT_ONCE,
        "explain": False,
        "token": token,
        "context": {"surface": "home", "at": (at + ASKED_AFTER).isoformat()},
    }


def plain(row: Row) -> Row:
    """A row of a canonical table as the body of a call."""
    maps = {name: dict(row[name]) for name in ("context", "attributes") if row.get(name)}
    times = {name: row[name].isoformat() for name in ("occurred_at", "created_at") if row.get(name)}
    images = {"image_vector": unpacked(row["image_vector"]).tolist()} if row.get("image_vector") else {}
    return {name: value for name, value in (row | maps | times | images).items() if value is not None and value != []}


def posted(client: httpx.Client, path: str, body: Row) -> Row:
    """The answer to a call; Unavailable says what came instead."""
    try:
        answer = client.post(path, json=body)
    except httpx.TransportError as away:
        raise Unavailable(f"{path}: {str(away) or type(away).__name__}") from away
    if answer.status_code != httpx.codes.OK:
        raise Unavailable(f"{path}: {answer.status_code}: {answer.text[:300]}")
    found: Row = answer.json()
    return found
