"""A decision: one answer with all that it was chosen from, and its JSON in the decision log.

Enough to arrange the same slate again and to weigh what was shown by how likely it was shown; vectors that a varied page
was compared by are those of the bundle, and not kept here. Columns of numbers travel as their own bytes, so that what is
read back has the same bits. Knows nothing of where decisions are kept.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from winnow.errors import InvalidArgument
from winnow.poison import Poison, body_of
from winnow.requests import Watermarks
from winnow.types import (
    Candidates,
    Context,
    Floats,
    History,
    Person,
    Predictions,
    UserState,
    Vector,
    strings,
)

SCHEMA = 1
RECOMMEND, SIMILAR, TRENDING = "recommend", "similar", "trending"
TEXT_BYTES = 64  # of an id as Python keeps it, about

Rows = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """`rows` (n,) are the places of the slate's items in the candidates, `propensities` (n,) how likely each was to be
    shown there (1 where nothing was left to chance), `user` is the state as it was served, `arranged` how strong each
    stage was that made the page varied (docs/quality.md; those that were off are not named), `rules` the version of the
    business rules that counted ("" for none)."""

    request_id: str
    at: datetime
    kind: str
    user: UserState
    context: Context
    candidates: Candidates
    predictions: Predictions | None
    rows: Rows
    propensities: Floats
    offset: int
    variant: str
    skipped: tuple[str, ...]
    watermarks: Watermarks
    arranged: Mapping[str, float] = field(default_factory=dict)
    rules: str = ""


def key_of(decision: Decision) -> bytes:
    """Decisions for one user, or for one session without a user, keep their order."""
    return (decision.user.person.user_id or decision.user.person.session_id).encode()


def size_bytes(decision: Decision) -> int:
    """About what it keeps in memory; cheap enough for the request path."""
    candidates, predictions, user = decision.candidates, decision.predictions, decision.user
    texts = len(candidates) + 2 * len(user.history) + len(user.seen)
    numbers = candidates.sources.nbytes + candidates.scores.nbytes + user.seen_tail.nbytes + 12 * len(user.history)
    ranked = 0 if predictions is None else predictions.heads.nbytes + predictions.scores.nbytes
    vector = None if predictions is None else predictions.vector
    features = 0 if vector is None else 2 * (len(vector.texts) + len(vector.numbers))  # names and values
    return TEXT_BYTES * (texts + features + 16) + numbers + ranked


def to_json(decision: Decision) -> bytes:
    """One line of JSON."""
    candidates, predictions, marks = decision.candidates, decision.predictions, decision.watermarks
    vector = None if predictions is None else predictions.vector
    return orjson.dumps(
        {
            "schema": SCHEMA,
            "request_id": decision.request_id,
            "at": decision.at,
            "kind": decision.kind,
            "user_id": decision.user.person.user_id,
            "session_id": decision.user.person.session_id,
            "variant": decision.variant,
            "bundles": dict(marks.bundles),
            "skipped": decision.skipped,
            "watermarks": watermarks_to(marks),
            "context": context_to(decision.context),
            "offset": decision.offset,
            "slate": candidates.item_ids[decision.rows].tolist(),
            "rows": decision.rows.tolist(),
            "propensities": decision.propensities.astype(np.float64).tolist(),
            "candidates": candidates_to(candidates),
            "predictions": None if predictions is None else predictions_to(predictions),
            "user": user_to(decision.user),
            **({} if vector is None else {"features": vector_to(vector)}),
            **({"arranged": dict(decision.arranged)} if decision.arranged else {}),
            **({"rules": decision.rules} if decision.rules else {}),
        }
    )


def of_json(line: bytes) -> Decision:
    """The decision; Poison for what is none, or is of a newer schema."""
    body = body_of(line, SCHEMA)
    try:
        found = candidates_of(body["candidates"])
        return Decision(
            request_id=a(str, body["request_id"]),
            at=datetime.fromisoformat(body["at"]),
            kind=a(str, body["kind"]),
            user=user_of(body["user"], Person(body["user_id"], body["session_id"])),
            context=context_of(body["context"]),
            candidates=found,
            predictions=predictions_of(body["predictions"], vector_of(body)),
            rows=rows_of(body["rows"], len(found)),
            propensities=np.asarray(a(list, body["propensities"]), np.float32),
            offset=a(int, body["offset"]),
            variant=a(str, body["variant"]),
            skipped=tuple(a(list, body["skipped"])),
            watermarks=watermarks_of(body["watermarks"], a(dict, body["bundles"])),
            rules=a(str, body.get("rules", "")),
            arranged={a(str, stage): float(strength) for stage, strength in a(dict, body.get("arranged", {})).items()},
        )
    except (ValueError, KeyError, TypeError, OverflowError, InvalidArgument) as wrong:
        raise Poison("invalid", f"is not a decision: {wrong!r}") from wrong


def rows_of(body: list[int], candidates: int) -> Rows:
    """Places among so many candidates."""
    rows = np.asarray([a(int, row) for row in a(list, body)], np.int64)
    if len(rows) and not 0 <= rows.min() <= rows.max() < candidates:
        raise ValueError(f"rows beyond {candidates} candidates")
    return rows


def candidates_to(candidates: Candidates) -> dict[str, Any]:
    return {
        "item_ids": candidates.item_ids.tolist(),
        "source_names": candidates.source_names,
        "sources": column_to(candidates.sources, "<u4"),
        "scores": column_to(candidates.scores, "<f4"),
        "bundle": candidates.bundle,
        "skipped": candidates.skipped,
    }


def candidates_of(body: dict[str, Any]) -> Candidates:
    return Candidates(
        strings(a(list, body["item_ids"])),
        column_of(body["sources"], "<u4"),
        column_of(body["scores"], "<f4"),
        tuple(a(list, body["source_names"])),
        a(str, body["bundle"]),
        tuple(a(list, body["skipped"])),
    )


def predictions_to(predictions: Predictions) -> dict[str, Any]:
    return {
        "heads": column_to(predictions.heads, "<f4"),
        "scores": column_to(predictions.scores, "<f4"),
        "bundle": predictions.bundle,
    }


def predictions_of(body: dict[str, Any] | None, vector: Vector | None) -> Predictions | None:
    if body is None:
        return None
    heads, scores = column_of(body["heads"], "<f4"), column_of(body["scores"], "<f4")
    return Predictions(heads, scores, a(str, body["bundle"]), vector)


def vector_to(vector: Vector) -> dict[str, Any]:
    numbers = np.fromiter(vector.numbers.values(), np.float64)
    return {
        "texts": dict(vector.texts),
        "names": list(vector.numbers),
        "numbers": column_to(numbers, "<f8"),
        "catalogue": vector.catalogue,
    }


def vector_of(line: dict[str, Any]) -> Vector | None:
    """The vector in a line, where one was logged."""
    body = line.get("features")
    if body is None:
        return None
    names, catalogue = a(list, body["names"]), body.get("catalogue")
    numbers = column_of(body["numbers"], "<f8").reshape(len(names)).tolist()
    return Vector(
        {name: tuple(a(str, one) for one in several) for name, several in a(dict, body["texts"]).items()},
        {a(str, name): number for name, number in zip(names, numbers, strict=True)},
        None if catalogue is None else a(int, catalogue),
    )


def watermarks_to(marks: Watermarks) -> dict[str, Any]:
    return {"events": marks.events, "features": marks.features, "catalogue": marks.catalogue}


def watermarks_of(body: dict[str, Any], bundles: dict[str, str]) -> Watermarks:
    return Watermarks(a(int, body["events"]), a(int, body["features"]), a(int, body["catalogue"]), bundles)


def user_to(user: UserState) -> dict[str, Any]:
    history = user.history
    return {
        "known": user.known,
        "events": user.events,
        "watermark": user.watermark,
        "traits": dict(user.traits),
        "history": {
            "item_ids": history.item_ids.tolist(),
            "types": history.types.tolist(),
            "values": column_to(history.values, "<f4"),
            "at": column_to(history.at, "<f8"),
        },
        "seen": user.seen.tolist(),
        "seen_tail": column_to(user.seen_tail, "<u4"),
    }


def user_of(body: dict[str, Any], person: Person) -> UserState:
    acts = body["history"]
    return UserState(
        person=person,
        known=a(bool, body["known"]),
        traits=a(dict, body["traits"]),
        history=History(
            strings(a(list, acts["item_ids"])),
            strings(a(list, acts["types"])),
            column_of(acts["values"], "<f4"),
            column_of(acts["at"], "<f8"),
        ),
        seen=strings(a(list, body["seen"])),
        seen_tail=column_of(body["seen_tail"], "<u4"),
        events=a(int, body["events"]),
        watermark=a(int, body["watermark"]),
    )


def context_to(context: Context) -> dict[str, Any]:
    return {"surface": context.surface, "device": context.device, "country": context.country, "at": context.at}


def context_of(body: dict[str, Any]) -> Context:
    at = None if body["at"] is None else datetime.fromisoformat(body["at"])
    return Context(body["surface"], body["device"], body["country"], at)


def column_to(column: npt.NDArray[Any], dtype: str) -> dict[str, Any]:
    """Any shape, row-major, little-endian."""
    data = np.ascontiguousarray(column, dtype).tobytes()
    return {"dtype": dtype, "shape": column.shape, "base64": b64encode(data).decode()}


def column_of(body: dict[str, Any], dtype: str) -> npt.NDArray[Any]:
    if body["dtype"] != dtype:
        raise ValueError(f"a column of {body['dtype']}, expected {dtype}")
    return np.frombuffer(b64decode(body["base64"]), dtype).reshape(body["shape"])


def a(kind: type[T], value: Any) -> T:
    """The value, which is exactly of this kind: True is no number here."""
    if type(value) is not kind:
        raise TypeError(f"{value!r:.50} is no {kind.__name__}")
    return value
