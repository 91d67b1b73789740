"""The shared words, to protobuf and back, side by side. What is incomplete is refused with the field's name."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from winnow.errors import InvalidArgument
from winnow.filters import MAX_DEPTH, TOO_DEEP, All, Any, Filter, Not, Op, Term
from winnow.image_vectors import received, sent
from winnow.requests import Readiness
from winnow.types import (
    EARLIEST,
    Candidates,
    Context,
    Directions,
    Event,
    EventType,
    Floats,
    History,
    Item,
    Person,
    Reason,
    Receipt,
    UserState,
    strings,
)
from winnow.v1 import types_pb2 as pb

EVENT_TYPES = {kind: pb.EventType.Value(f"EVENT_TYPE_{kind.name}") for kind in EventType}
EVENT_NAMES = {number: kind.value for kind, number in EVENT_TYPES.items()}
EVENT_KINDS = {number: kind for kind, number in EVENT_TYPES.items()}
OPS = {op: pb.Filter.Term.Op.Value(f"OP_{op.name}") for op in Op}
OP_KINDS = {number: op for op, number in OPS.items()}

FLOAT = np.dtype("<f4")


def time_to(value: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(value.astimezone(UTC))
    return stamp


def time_of(message: Timestamp, name: str) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as wrong:
        raise InvalidArgument("is not a time", field=name) from wrong


def matrix_to(values: Floats) -> bytes:
    return np.ascontiguousarray(values, FLOAT).tobytes()


def matrix_of(data: bytes, columns: int, name: str) -> Floats:
    """(n, columns) float32, read-only; refuses bytes that do not fill whole rows."""
    if columns == 0 or len(data) % (4 * columns):
        if data:
            raise InvalidArgument(f"{len(data)} bytes are not rows of {columns} float32", field=name)
        return np.empty((0, columns), np.float32)
    return np.frombuffer(data, FLOAT).reshape(-1, columns).astype(np.float32, copy=False)


def person_to(person: Person) -> pb.Person:
    return pb.Person(user_id=person.user_id, session_id=person.session_id)


def person_of(message: pb.Person) -> Person:
    return Person(message.user_id, message.session_id)


def context_to(context: Context) -> pb.Context:
    at = None if context.at is None else time_to(context.at)
    return pb.Context(surface=context.surface, device=context.device, country=context.country, at=at)


def context_of(message: pb.Context) -> Context:
    at = time_of(message.at, "context.at") if message.HasField("at") else None
    return Context(message.surface, message.device, message.country, at)


def event_to(event: Event) -> pb.Event:
    return pb.Event(
        event_id=event.event_id,
        type=EVENT_TYPES[event.type],
        item_id=event.item_id,
        occurred_at=time_to(event.occurred_at),
        user_id=event.user_id,
        session_id=event.session_id,
        value=event.value,
        quantity=event.quantity,
        request_id=event.request_id,
        position=event.position,
        context=event.context,
    )


def event_of(message: pb.Event) -> Event:
    if message.type not in EVENT_KINDS:
        raise InvalidArgument(f"unknown event type {message.type}", field="type")
    if not message.HasField("occurred_at"):
        raise InvalidArgument("must be given", field="occurred_at")
    return Event(
        event_id=message.event_id,
        type=EVENT_KINDS[message.type],
        item_id=message.item_id,
        occurred_at=time_of(message.occurred_at, "occurred_at"),
        user_id=message.user_id,
        session_id=message.session_id,
        value=message.value if message.HasField("value") else None,
        quantity=message.quantity if message.HasField("quantity") else 1,
        request_id=message.request_id,
        position=message.position if message.HasField("position") else None,
        context=dict(message.context),
    )


def item_to(item: Item, *, images: bool = True) -> pb.Item:
    """`images`: with the vector of its image; answers go without."""
    return pb.Item(
        item_id=item.item_id,
        title=item.title,
        description=item.description,
        categories=item.categories,
        brand=item.brand,
        price=item.price,
        currency=item.currency,
        image_url=item.image_url,
        created_at=time_to(item.created_at),
        available=item.available,
        attributes=item.attributes,
        image_vector=sent(item.image_vector) if images else b"",
    )


def item_of(message: pb.Item) -> Item:
    return Item(
        item_id=message.item_id,
        title=message.title,
        description=message.description,
        categories=tuple(message.categories),
        brand=message.brand,
        price=message.price if message.HasField("price") else None,
        currency=message.currency,
        image_url=message.image_url,
        created_at=time_of(message.created_at, "created_at") if message.HasField("created_at") else EARLIEST,
        available=message.available if message.HasField("available") else True,
        attributes=dict(message.attributes),
        image_vector=received(message.image_vector),
    )


def history_to(history: History) -> pb.History:
    return pb.History(
        item_ids=history.item_ids.tolist(),
        types=map(EVENT_TYPES.__getitem__, history.types.tolist()),
        values=history.values.tolist(),
        at=history.at.tolist(),
    )


def history_of(message: pb.History) -> History:
    try:
        types = strings(list(map(EVENT_NAMES.__getitem__, message.types)))
    except KeyError as unknown:
        raise InvalidArgument(f"unknown event type {unknown.args[0]}", field="history.types") from unknown
    return History(
        strings(message.item_ids), types, np.array(message.values[:], np.float32), np.array(message.at[:], np.float64)
    )


STATES: WeakKeyDictionary[UserState, pb.UserState] = WeakKeyDictionary()
"""The message of a state, for as long as the state lives: a gateway sends one to three peers as it came from the first."""


def user_to(user: UserState) -> pb.UserState:
    """Not to be written to."""
    message = STATES.get(user)
    if message is None:
        message = STATES[user] = state_to(user)
    return message


def user_as_sent(message: pb.UserState) -> UserState:
    """As `user_of`, of a state that will be sent on."""
    user = user_of(message)
    STATES[user] = message
    return user


def state_to(user: UserState) -> pb.UserState:
    return pb.UserState(
        person=person_to(user.person),
        known=user.known,
        traits=user.traits,
        history=history_to(user.history),
        seen=user.seen.tolist(),
        seen_tail=user.seen_tail.tolist(),
        events=user.events,
        watermark=user.watermark,
    )


def user_of(message: pb.UserState) -> UserState:
    return UserState(
        person=person_of(message.person),
        known=message.known,
        traits=dict(message.traits),
        history=history_of(message.history),
        seen=strings(message.seen),
        seen_tail=np.array(message.seen_tail, np.uint32),
        events=message.events,
        watermark=message.watermark,
    )


def candidates_to(candidates: Candidates) -> pb.Candidates:
    return pb.Candidates(
        item_ids=candidates.item_ids.tolist(),
        sources=candidates.sources.tolist(),
        scores=matrix_to(candidates.scores),
        source_names=candidates.source_names,
        bundle=candidates.bundle,
        skipped=candidates.skipped,
        dim=0 if candidates.vectors is None else candidates.vectors.shape[1],
        vectors=b"" if candidates.vectors is None else np.ascontiguousarray(candidates.vectors, np.int8).tobytes(),
    )


def candidates_of(message: pb.Candidates) -> Candidates:
    return Candidates(
        item_ids=strings(message.item_ids),
        sources=np.array(message.sources, np.uint32),
        scores=matrix_of(message.scores, len(message.source_names), "candidates.scores"),
        source_names=tuple(message.source_names),
        bundle=message.bundle,
        skipped=tuple(message.skipped),
        vectors=directions_of(message.vectors, message.dim, len(message.item_ids)) if message.dim else None,
    )


def directions_of(data: bytes, dim: int, n: int) -> Directions:
    """(n, dim) int8, read-only; refuses any other number of bytes."""
    if len(data) != n * dim:
        raise InvalidArgument(f"{len(data)} bytes are not {n} vectors of {dim}", field="candidates.vectors")
    return np.frombuffer(data, np.int8).reshape(n, dim)


def filter_to(tree: Filter | None) -> pb.Filter | None:
    match tree:
        case None:
            return None
        case Term(field, op, values, number, flag):
            return pb.Filter(term=pb.Filter.Term(field=field, op=OPS[op], values=values, number=number, flag=flag))
        case Not(part):
            message = pb.Filter()
            getattr(message, "not").CopyFrom(filter_to(part))  # a Python keyword: reached by name only
            return message
        case All(parts):
            return pb.Filter(all=parts_to(parts))
        case Any(parts):
            return pb.Filter(any=parts_to(parts))


def parts_to(parts: Iterable[Filter]) -> pb.Filter.Parts:
    return pb.Filter.Parts(parts=[part for part in map(filter_to, parts) if part is not None])


def filter_of(message: pb.Filter, most: int = MAX_DEPTH) -> Filter:
    """InvalidArgument where it is nested more than `most` deep."""
    if not most:
        raise InvalidArgument(TOO_DEEP, field="filter")
    match message.WhichOneof("expression"):
        case "all":
            return All(tuple(filter_of(part, most - 1) for part in message.all.parts))
        case "any":
            return Any(tuple(filter_of(part, most - 1) for part in message.any.parts))
        case "not":
            return Not(filter_of(getattr(message, "not"), most - 1))
        case "term":
            return term_of(message.term)
        case _:
            raise InvalidArgument("needs one of all, any, not, term", field="filter")


def term_of(term: pb.Filter.Term) -> Term:
    if term.op not in OP_KINDS:
        raise InvalidArgument(f"unknown operator {term.op}", field="filter.op")
    return Term(term.field, OP_KINDS[term.op], tuple(term.values), term.number, term.flag)


def reason_to(reason: Reason) -> pb.Reason:
    return pb.Reason(text=reason.text, fact=reason.fact, evidence=reason.evidence)


def reason_of(message: pb.Reason) -> Reason:
    return Reason(message.text, message.fact, tuple(message.evidence))


def receipt_to(receipt: Receipt) -> pb.Receipt:
    return pb.Receipt(
        accepted=receipt.accepted,
        duplicates=receipt.duplicates,
        watermark=receipt.watermark,
        token=receipt.token,
    )


def receipt_of(message: pb.Receipt) -> Receipt:
    return Receipt(message.accepted, message.duplicates, message.watermark, message.token)


def readiness_to(readiness: Readiness) -> pb.Readiness:
    return pb.Readiness(ready=readiness.ready, missing=readiness.missing)


def readiness_of(message: pb.Readiness) -> Readiness:
    return Readiness(message.ready, tuple(message.missing))
