"""Events and items as messages of a topic: rows of the log to JSON, and JSON back to validated words.

Every message says its `schema` (the version of this format) and `log_position` (where it stands in the log); times are
ISO 8601 in UTC with microseconds, bytes base64. A reader takes what it knows and ignores the rest; a message of a newer schema, or
one that is wrong, is poison: it is refused with a reason and never guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Strict, ValidationError

from winnow.errors import InvalidArgument
from winnow.poison import Poison, body_of
from winnow.segments import EPOCH, Row, text_of
from winnow.types import Event, EventType

SCHEMA = 1
FUTURE = timedelta(hours=1)  # a clock may be wrong by that much

Exactly = Strict()


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event and its position in the log."""

    event: Event
    log_position: int


class EventMessage(BaseModel):
    """The types of an event's JSON; what they mean is checked by `Event` itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    event_id: Annotated[str, Exactly]
    type: EventType
    item_id: Annotated[str, Exactly]
    occurred_at: AwareDatetime
    user_id: Annotated[str, Exactly] = ""
    session_id: Annotated[str, Exactly] = ""
    value: Annotated[float, Exactly] | None = None
    quantity: Annotated[int, Exactly] = 1
    request_id: Annotated[str, Exactly] = ""
    position: Annotated[int, Exactly] | None = None
    context: dict[str, Annotated[str, Exactly]] = {}
    log_position: Annotated[int, Exactly] = 0


def event_key(row: Row) -> bytes:
    """Events of one user, or of one session without a user, keep their order."""
    return str(row.get("user_id") or row.get("session_id") or "").encode()


def item_key(row: Row) -> bytes:
    return str(row["item_id"]).encode()


def event_value(row: Row, log_position: int) -> bytes:
    """A row of `winnow.canonical.EVENTS`, as the log holds it, as a message."""
    times = {"occurred_at": moment(row["occurred_at"])}
    return value_of(row, {**times, "context": dict(row.get("context") or ())}, log_position)


def item_value(row: Row, log_position: int) -> bytes:
    """A row of `winnow.canonical.ITEMS`, as the log holds it, as a message."""
    created = row.get("created_at")
    times = {} if created is None else {"created_at": moment(created)}
    return value_of(row, {**times, "attributes": dict(row.get("attributes") or ())}, log_position)


def value_of(row: Row, instead: Mapping[str, Any], log_position: int) -> bytes:
    told = {name: value for name, value in row.items() if value is not None}
    return orjson.dumps({"schema": SCHEMA, "log_position": log_position, **told, **instead}, default=text_of)


def moment(value: int | datetime) -> str:
    """ISO 8601 in UTC, always with microseconds."""
    at = EPOCH + timedelta(microseconds=value) if isinstance(value, int) else value.astimezone(UTC)
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def event_of(value: bytes, now: datetime) -> LoggedEvent:
    """The event of a message; Poison says what is wrong with it."""
    body = body_of(value, SCHEMA)
    if not body.get("event_id"):
        raise Poison("missing-id", "the message has no event_id", field="event_id")
    kind = body.get("type")
    if kind not in tuple(EventType):
        raise Poison("unknown-type", f"unknown event type {str(kind)[:50]!r}", field="type")
    if not isinstance(body.get("occurred_at"), str):  # a bare number would be taken for seconds
        raise Poison("invalid", "must be a text, for example 2026-01-31T12:00:00Z", field="occurred_at")
    try:
        message = EventMessage.model_validate(body)
        told = dict(message)
        position = told.pop("log_position")
        event = Event(**told)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False)[0]
        raise Poison("invalid", first["msg"], field=".".join(map(str, first["loc"]))) from wrong
    except InvalidArgument as wrong:
        raise Poison("invalid", wrong.detail, field=wrong.field) from wrong
    if event.occurred_at > now + FUTURE:
        raise Poison("future-time", f"happens {event.occurred_at - now} from now", field="occurred_at")
    return LoggedEvent(event, position)
