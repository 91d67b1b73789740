"""A decision: one answer with all that it was chosen from, and its JSON in the decision log.

Enough to arrange the same slate again and to weigh what was shown by how likely it was shown. Columns of numbers travel
as their own bytes, so that what is read back has the same bits. Knows nothing of where decisions are kept.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
    strings,
)

SCHEMA = 1
RECOMMEND, SIMILAR, TRENDING = "recommend", "similar", "trending"
TEXT_BYTES = 64  # of an id as Python keeps it, about

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """`rows` (n,) are the places of the slate's items in the candidates, `propensities` (n,) how likely each was to be
    shown there (1 where nothing was left to chance), `user` is the state as it was served."""

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


def key_of(decision: Decision) -> bytes:
    """Decisions for one user, or for one session without a user, keep their order."""
    return (decision.user.person.user_id or decision.user.person.session_id).encode()


def size_bytes(decision: Decision) -> int:
    """About what it keeps in memory; cheap enough for the request path."""
    candidates, predictions, user = decision.candidates, decision.predictions, decision.user
    texts = len(candidates) + 2 * len(user.history) + len(user.seen)
    numbers = candidates.sources.nbytes + candidates.scores.nbytes + user.seen_tail.nbytes + 12 * len(user.history)
    ranked = 0 if predictions is None else predictions.heads.nbytes + predictions.scores.nbytes
    return TEXT_BYTES * (texts + 16) + numbers + ranked


def to_json(decision: Decision) -> bytes:
    """One line of JSON."""
    candidates, predictions, marks = decision.candidates, decision.predictions, decision.watermarks
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
            "watermarks": {"events": marks.events, "features": marks.features, "catalogue": marks.catalogue},
            "context": context_to(decision.context),
            "offset": decision.offset,
            "slate": candidates.item_ids[decision.rows].tolist(),
            "rows": decision.rows.tolist(),
            "propensities": decision.propensities.astype(np.float64).tolist(),
            "candidates": {
                "item_ids": candidates.item_ids.tolist(),
                "source_names": candidates.source_names,
                "sources": column_to(candidates.sources, "<u4"),
                "scores": column_to(candidates.scores, "<f4"),
                "bundle": candidates.bundle,
                "skipped": candidates.skipped,
            },
            "predictions": predictions
            and {
                "heads": column_to(predictions.heads, "<f4"),
                "scores": column_to(predictions.scores, "<f4"),
                "bundle": predictions.bundle,
            },
            "user": user_to(decision.user),
        }
    )


def of_json(line: bytes) -> Decision:
    """The decision; Poison for what is none, or is of a newer schema."""
    body = body_of(line, SCHEMA)
    try:
        found, ranked, marks = body["candidates"], body["predictions"], body["watermarks"]
        return Decision(
            request_id=body["request_id"],
            at=datetime.fromisoformat(body["at"]),
            kind=body["kind"],
            user=user_of(body["user"], Person(body["user_id"], body["session_id"])),
            context=context_of(body["context"]),
            candidates=Candidates(
                strings(found["item_ids"]),
                column_of(found["sources"], "<u4"),
                column_of(found["scores"], "<f4"),
                tuple(found["source_names"]),
                found["bundle"],
                tuple(found["skipped"]),
            ),
            predictions=ranked
            and Predictions(column_of(ranked["heads"], "<f4"), column_of(ranked["scores"], "<f4"), ranked["bundle"]),
            rows=np.asarray(body["rows"], np.int64),
            propensities=np.asarray(body["propensities"], np.float32),
            offset=body["offset"],
            variant=body["variant"],
            skipped=tuple(body["skipped"]),
            watermarks=Watermarks(marks["events"], marks["features"], marks["catalogue"], body["bundles"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, InvalidArgument) as wrong:
        raise Poison("invalid", f"is not a decision: {wrong!r}") from wrong


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
        known=body["known"],
        traits=body["traits"],
        history=History(
            strings(acts["item_ids"]),
            strings(acts["types"]),
            column_of(acts["values"], "<f4"),
            column_of(acts["at"], "<f8"),
        ),
        seen=strings(body["seen"]),
        seen_tail=column_of(body["seen_tail"], "<u4"),
        events=body["events"],
        watermark=body["watermark"],
    )


def context_to(context: Context) -> dict[str, Any]:
    return {"surface": context.surface, "device": context.device, "country": context.country, "at": context.at}


def context_of(body: dict[str, Any]) -> Context:
    at = body["at"] and datetime.fromisoformat(body["at"])
    return Context(body["surface"], body["device"], body["country"], at)


def column_to(column: npt.NDArray[Any], dtype: str) -> dict[str, Any]:
    """Any shape, row-major, little-endian."""
    data = np.ascontiguousarray(column, dtype).tobytes()
    return {"dtype": dtype, "shape": column.shape, "base64": b64encode(data).decode()}


def column_of(body: dict[str, Any], dtype: str) -> npt.NDArray[Any]:
    if body["dtype"] != dtype:
        raise ValueError(f"a column of {body['dtype']}, expected {dtype}")
    return np.frombuffer(b64decode(body["base64"]), dtype).reshape(body["shape"])
