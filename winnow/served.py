"""What the models of one answer saw of a person: the state that the feature service gave, and the vector computed of it.

A line of the decision log (`winnow.decisions`) is one of these; it may hold `features` beside what a decision holds, the
vector as whoever ranked had computed it. Numbers travel as their own bytes, so that what is read back has the same bits.
Knows nothing of where lines are kept, and of no bundle: a vector is what its vocabularies and scales are applied to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from winnow.decisions import RECOMMEND, SCHEMA, a, column_of, column_to, context_of, context_to, user_of, user_to
from winnow.errors import InvalidArgument
from winnow.features import FEATURES, RANKER_USER, UserView
from winnow.poison import Poison, body_of
from winnow.types import Context, Person, UserState

Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """Features of one person by name. A number is float64 and NaN where it is missing; a category is one text ("" where
    it is missing), and categories are as many as the feature has."""

    texts: Mapping[str, Texts]
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """`user.watermark` and `catalogue` are the log positions of the newest event and item that were known, `skipped` the
    stages that the answer did without. `vector` is None where nobody logged it."""

    request_id: str
    at: datetime
    user: UserState
    context: Context
    catalogue: int
    kind: str = RECOMMEND
    skipped: Texts = ()
    vector: Vector | None = None


def vector_of(view: UserView, names: Sequence[str] = RANKER_USER) -> Vector:
    """The features of a person at one moment, by the declarations that every side reads."""
    features = [FEATURES[name] for name in names]
    texts = {one.name: one.compute(view) for one in features if one.kind != "number"}
    return Vector(
        {name: (value,) if isinstance(value, str) else tuple(value) for name, value in texts.items()},
        {one.name: float(one.compute(view)) for one in features if one.kind == "number"},
    )


def to_json(served: Served) -> bytes:
    """One line, in the words of a decision."""
    vector = {} if served.vector is None else {"features": vector_to(served.vector)}
    return orjson.dumps(
        {
            "schema": SCHEMA,
            "request_id": served.request_id,
            "at": served.at,
            "kind": served.kind,
            "user_id": served.user.person.user_id,
            "session_id": served.user.person.session_id,
            "skipped": served.skipped,
            "watermarks": {"events": served.user.watermark, "catalogue": served.catalogue},
            "context": context_to(served.context),
            "user": user_to(served.user),
            **vector,
        }
    )


def of_json(line: bytes) -> Served:
    """What was served, of a decision's line or of one of `to_json`; Poison for what is neither, or of a newer schema."""
    body = body_of(line, SCHEMA)
    try:
        vector = body.get("features")
        return Served(
            request_id=a(str, body["request_id"]),
            at=datetime.fromisoformat(body["at"]),
            user=user_of(body["user"], Person(body["user_id"], body["session_id"])),
            context=context_of(body["context"]),
            catalogue=a(int, body["watermarks"]["catalogue"]),
            kind=a(str, body["kind"]),
            skipped=tuple(a(list, body["skipped"])),
            vector=None if vector is None else vector_from(vector),
        )
    except (ValueError, KeyError, TypeError, OverflowError, InvalidArgument) as wrong:
        raise Poison("invalid", f"is nothing that was served: {wrong!r}") from wrong


def vector_to(vector: Vector) -> dict[str, Any]:
    numbers = np.fromiter(vector.numbers.values(), np.float64)
    return {"texts": dict(vector.texts), "names": list(vector.numbers), "numbers": column_to(numbers, "<f8")}


def vector_from(body: dict[str, Any]) -> Vector:
    numbers = column_of(body["numbers"], "<f8").tolist()
    return Vector(
        {name: tuple(a(str, one) for one in several) for name, several in a(dict, body["texts"]).items()},
        dict(zip(a(list, body["names"]), numbers, strict=True)),
    )
