"""The feature service: `winnow.ports.Features` over two logs and what is in memory.

An event is on disk before it is acknowledged, and in memory before the next `users`. The broker gets it from there: its
acknowledgement is waited for a little, but disk is enough. An event is known by its id for ever: a second one with the
same id, in the same call, at the same time or after a restart, counts as a duplicate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.feature.hot import Hot
from services.feature.hot import Nowhere as NoRedis
from services.feature.ids import KnownIds
from services.feature.items import ItemLog
from services.feature.onward import Forwarding, Nowhere
from services.feature.store import People
from winnow.canonical import event_row, item_row
from winnow.errors import InvalidArgument, PayloadTooLarge
from winnow.eventlog import Log
from winnow.requests import Readiness
from winnow.serving.telemetry import ACKNOWLEDGED
from winnow.types import MAX_EVENTS, MAX_ITEMS, MAX_USERS, CataloguePage, Event, Item, Person, Receipt, UserState

MAX_PAGE = 10_000  # items
NOWHERE = Nowhere()
NO_REDIS = NoRedis()


class FeatureService:
    """Knows people and items, and takes every event."""

    def __init__(
        self,
        events: Log,
        items: Log,
        people: People,
        catalogue: ItemLog,
        known: KnownIds,
        *,
        hot: Hot = NO_REDIS,
        events_onward: Forwarding = NOWHERE,
        items_onward: Forwarding = NOWHERE,
        onward_s: float = 0.0,
    ) -> None:
        self._events = events
        self._items = items
        self._people = people
        self._catalogue = catalogue
        self._known = known
        self._hot = hot
        self._events_onward = events_onward
        self._items_onward = items_onward
        self._onward_s = onward_s
        self._recording: dict[str, asyncio.Task[None]] = {}  # event id -> its way to the disk
        self._put = asyncio.Lock()

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        at_most(len(people), MAX_USERS, "people")
        return [self._people.state(person) for person in people]

    async def record(self, events: Sequence[Event]) -> Receipt:
        at_most(len(events), MAX_EVENTS, "events")
        fresh: dict[str, Event] = {}
        waited: set[asyncio.Task[None]] = set()
        for event in events:
            if event.event_id in self._recording:
                waited.add(self._recording[event.event_id])
            elif event.event_id not in self._known:
                fresh.setdefault(event.event_id, event)
        if fresh:
            waited.add(self._start(fresh))
        for task in waited:
            await asyncio.shield(task)  # a caller who leaves does not undo what others may rely on
        receipt = Receipt(len(fresh), len(events) - len(fresh), self._people.watermark)
        further = await self._events_onward.reached(receipt.watermark, self._onward_s)
        ACKNOWLEDGED.labels(by="broker" if further else "disk").inc()
        return receipt

    async def put_items(self, items: Sequence[Item]) -> Receipt:
        """An item that says nothing new counts as a duplicate and is not written again."""
        at_most(len(items), MAX_ITEMS, "items")
        return await asyncio.shield(asyncio.create_task(self._write_items(items)))

    async def catalogue(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        if after < 0:
            raise InvalidArgument("must not be negative", field="after")
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidArgument(f"must be between 1 and {MAX_PAGE}", field="limit")
        return await self._catalogue.page(after, limit, images)

    async def forward(self) -> None:
        """Send what is on disk to the broker, for ever."""
        await asyncio.gather(self._events_onward.run(), self._items_onward.run())

    async def ready(self) -> Readiness:
        missing = tuple(f"{log.folder.name} log: {log.broken}" for log in (self._events, self._items) if log.broken)
        return Readiness(not missing, missing)

    async def close(self) -> None:
        """Finish what is being written, then let go of the logs."""
        await asyncio.gather(*set(self._recording.values()), return_exceptions=True)
        async with self._put:
            await self._items.close()
        await self._events.close()
        await self._hot.close()

    async def keep_hot(self) -> None:
        """Keep what Redis holds of people up to date, for ever."""
        await self._hot.run()

    def _start(self, fresh: dict[str, Event]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._write_events(fresh))
        self._recording.update(dict.fromkeys(fresh, task))
        return task

    async def _write_events(self, fresh: dict[str, Event]) -> None:
        events = list(fresh.values())
        try:
            last = await self._events.append([event_row(event) for event in events])
            self._people.apply(events, last)
            self._known.update(fresh)
            self._events_onward.written(last, len(events))
            await self._hot.recorded(events)
        finally:
            for event_id in fresh:
                del self._recording[event_id]

    async def _write_items(self, items: Sequence[Item]) -> Receipt:
        async with self._put:  # one at a time, so that what is compared is what will be replaced
            newest = {item.item_id: item for item in items}
            fresh = [item for item in newest.values() if self._catalogue.get(item.item_id) != item]
            if fresh:
                last = await self._items.append([item_row(item) for item in fresh])
                self._catalogue.apply(fresh)
                self._items_onward.written(last, len(fresh))
                await self._hot.put(fresh, self._catalogue.watermark)
            return Receipt(len(fresh), len(items) - len(fresh), self._catalogue.watermark)


def at_most(number: int, limit: int, what: str) -> None:
    if number > limit:
        raise PayloadTooLarge(f"at most {limit} {what} in one call, not {number}", field=what)
