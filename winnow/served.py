"""What the models of one answer saw of a person: the state that the feature service gave, and the vector computed of it.

A line of the decision log (`winnow.decisions`) is one of these; its `features` are the vector as whoever ranked had
computed it. Numbers travel as their own bytes, so that what is read back has the same bits.
Knows nothing of where lines are kept, and of no bundle: a vector is what its vocabularies and scales are applied to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from winnow import decisions
from winnow.decisions import RECOMMEND, SCHEMA, a, context_of, context_to, user_of, user_to, vector_to
from winnow.errors import InvalidArgument
from winnow.features import FEATURES, RANKER_USER, UserView
from winnow.poison import Poison, body_of
from winnow.types import Context, Person, UserState, Vector

Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """`user.watermark` and `catalogue` are the log positions of the newest event and item that were known, `skipped` the
    stages that the answer did without. `ranked`: a model saw the person; `vector` is None where nobody logged it."""

    request_id: str
    at: datetime
    user: UserState
    context: Context
    catalogue: int
    kind: str = RECOMMEND
    skipped: Texts = ()
    ranked: bool = False
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
        return Served(
            request_id=a(str, body["request_id"]),
            at=datetime.fromisoformat(body["at"]),
            user=user_of(body["user"], Person(body["user_id"], body["session_id"])),
            context=context_of(body["context"]),
            catalogue=a(int, body["watermarks"]["catalogue"]),
            kind=a(str, body["kind"]),
            skipped=tuple(a(list, body["skipped"])),
            ranked=body.get("predictions") is not None,
            vector=decisions.vector_of(body),
        )
    except (ValueError, KeyError, TypeError, OverflowError, InvalidArgument) as wrong:
        raise Poison("invalid", f"is nothing that was served: {wrong!r}") from wrong
