"""The canonical tables: what every data set becomes and what the log keeps. Arrow schemas, and rows to words and back.

Order matters: events of one time keep the order of their rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from winnow.types import EARLIEST, Event, EventType, Item

TIME = pa.timestamp("us", tz="UTC")
TEXT_MAP = pa.map_(pa.string(), pa.string())

EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("occurred_at", TIME, nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("session_id", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("quantity", pa.int64()),
        pa.field("request_id", pa.string()),
        pa.field("position", pa.int32()),
        pa.field("context", TEXT_MAP),
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("description", pa.string()),
        pa.field("categories", pa.list_(pa.string())),
        pa.field("brand", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("currency", pa.string()),
        pa.field("image_url", pa.string()),
        pa.field("created_at", TIME),
        pa.field("available", pa.bool_()),
        pa.field("attributes", TEXT_MAP),
        pa.field("image_vector", pa.large_binary()),
    ]
)
BARE = [name for name in ITEMS.names if name != "image_vector"]  # for those who do not look at images
USERS = pa.schema([pa.field("user_id", pa.string(), nullable=False), pa.field("traits", TEXT_MAP)])


def event_row(event: Event) -> dict[str, Any]:
    """An event as a row of `EVENTS`; absent texts become null."""
    return {
        "event_id": event.event_id,
        "type": event.type.value,
        "item_id": event.item_id,
        "occurred_at": event.occurred_at.astimezone(UTC),
        "user_id": event.user_id or None,
        "session_id": event.session_id or None,
        "value": event.value,
        "quantity": event.quantity,
        "request_id": event.request_id or None,
        "position": event.position,
        "context": list(event.context.items()),
    }


def event_of(row: Mapping[str, Any]) -> Event:
    """A row of `EVENTS` as an event; InvalidArgument names the field that is wrong."""
    return Event(
        event_id=row["event_id"],
        type=EventType(row["type"]),
        item_id=row["item_id"],
        occurred_at=row["occurred_at"],
        user_id=row["user_id"] or "",
        session_id=row["session_id"] or "",
        value=row["value"],
        quantity=1 if row["quantity"] is None else row["quantity"],
        request_id=row["request_id"] or "",
        position=row["position"],
        context=dict(row["context"] or ()),
    )


def item_row(item: Item) -> dict[str, Any]:
    """An item as a row of `ITEMS`."""
    return {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "categories": list(item.categories),
        "brand": item.brand,
        "price": item.price,
        "currency": item.currency,
        "image_url": item.image_url,
        "created_at": item.created_at.astimezone(UTC),
        "available": item.available,
        "attributes": list(item.attributes.items()),
        "image_vector": item.image_vector or None,
    }


def item_of(row: Mapping[str, Any]) -> Item:
    """A row of `ITEMS`, or of its columns `BARE`, as an item; null means the default."""
    created: datetime | None = row["created_at"]
    return Item(
        item_id=row["item_id"],
        title=row["title"] or "",
        description=row["description"] or "",
        categories=tuple(row["categories"] or ()),
        brand=row["brand"] or "",
        price=row["price"],
        currency=row["currency"] or "",
        image_url=row["image_url"] or "",
        created_at=EARLIEST if created is None else created,
        available=True if row["available"] is None else row["available"],
        attributes=dict(row["attributes"] or ()),
        image_vector=row.get("image_vector") or b"",
    )


def event_table(events: Sequence[Event]) -> pa.Table:
    return pa.Table.from_pylist([event_row(event) for event in events], schema=EVENTS)


def item_table(items: Sequence[Item]) -> pa.Table:
    return pa.Table.from_pylist([item_row(item) for item in items], schema=ITEMS)


def items_of(table: pa.Table) -> Iterator[Item]:
    """Items of an `ITEMS` table, in its order, in bounded memory."""
    for batch in table.to_batches(max_chunksize=10_000):
        yield from map(item_of, batch.to_pylist())


def events_of(batches: Iterable[pa.RecordBatch]) -> Iterator[Event]:
    """Events of `EVENTS` batches, in their order."""
    for batch in batches:
        yield from map(event_of, batch.to_pylist())
