"""Three people to show answers for: who did much, who did little, and somebody nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from winnow.canonical import EVENTS
from winnow.errors import FailedPrecondition
from winnow.home import events_folder
from winnow.segments import whole
from winnow.types import Person

SHOWN = 10  # items that each of them is shown


def three_people(home: Path) -> Mapping[str, Person]:
    """`heavy`, `light` and `unknown`. Heavy is who acted on most items and still has enough left to be shown."""
    events = whole(events_folder(home), EVENTS, ("user_id", "session_id", "item_id"))
    own = pc.and_(pc.is_valid(events["user_id"]), pc.not_equal(events["user_id"], ""))
    named = bool(pc.any(own).as_py())
    key = "user_id" if named else "session_id"
    events = events.filter(pc.is_valid(events[key]))
    counts = events.group_by(key).aggregate([("item_id", "count_distinct")])
    counts = counts.sort_by([("item_id_count_distinct", "descending"), (key, "ascending")])
    items = len(pc.unique(events["item_id"]))
    ids = counts.filter(pc.less_equal(counts["item_id_count_distinct"], max(items - SHOWN, 0)))[key].to_pylist()
    if len(ids) < 2:
        raise FailedPrecondition(f"{home} holds too few people or items to show anything")
    return {
        "heavy": person(key, ids[0]),
        "light": person(key, ids[-1]),
        "unknown": person(key, unused(events[key])),
    }


def person(key: str, value: str) -> Person:
    return Person(**{key: value})


def unused(known: pa.ChunkedArray) -> str:
    """An id that nobody has."""
    taken = {*pc.unique(known).to_pylist()}
    return next(name for n in range(len(taken) + 1) if (name := f"newcomer-{n}") not in taken)
