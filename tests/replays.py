"""A shop replayed through the feature service, with answers in between whose lines are kept; and what may go wrong in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.feature.service import FeatureService
from tests.events import features
from winnow.catalogue import Catalogue
from winnow.features import UserView
from winnow.served import Served, to_json, vector_of
from winnow.types import Context, Event, EventType, Item, Person

START = datetime(2026, 2, 1, 8, tzinfo=UTC)
USERS, SESSIONS, ITEMS = ("u1", "u2", "new-1", "new-2"), ("s1", "s2", "s3"), 40
PAGE = 1_000
RESTART = 0.6  # of the events, then the service is started again


@dataclass
class Faults:
    """What stands between the log and what is served: by default nothing."""

    event: Callable[[Event], Event] = lambda event: event
    item: Callable[[Item], Item] = lambda item: item
    context: Callable[[Context], Context] = lambda context: context
    late_every: int = 0  # of so many writes one reaches the state only with the next


@dataclass
class Shop:
    """A running service, the catalogue of whoever ranks, and the lines of what was served."""

    home: Path
    faults: Faults = field(default_factory=Faults)
    lines: list[bytes] = field(default_factory=list)
    catalogue: Catalogue = field(default_factory=Catalogue)

    def __post_init__(self) -> None:
        self.service = self._started()

    async def again(self) -> None:
        """A restart, which reads the log anew."""
        await self.service.close()
        self.service = self._started()

    async def put(self, item: Item) -> None:
        await self.service.put_items([item])
        await self.follow()

    async def follow(self) -> None:
        page = await self.service.catalogue(self.catalogue.watermark, PAGE)
        self.catalogue.upsert(map(self.faults.item, page.items))
        self.catalogue.advance(page.watermark, complete=not page.more)

    async def answer(self, person: Person, at: datetime) -> None:
        [state] = await self.service.users([person])
        context = Context(surface="home", device="phone", at=at)
        view = UserView(state, self.faults.context(context), self.catalogue.get)
        served = Served(f"r{len(self.lines)}", at, state, context, self.catalogue.watermark, vector=vector_of(view))
        self.lines.append(to_json(served))

    def _started(self) -> FeatureService:
        service = features(self.home)
        spoil(service, self.faults)
        return service


def spoil(service: FeatureService, faults: Faults) -> None:
    """Let the faults in between the log, which is right, and the states."""
    people, held, writes = service._people, [], 0
    apply = people.apply

    def applied(events: Sequence[Event], last: int) -> None:
        nonlocal writes
        writes += 1
        while held:
            apply(*held.pop())
        told = [faults.event(event) for event in events]
        if faults.late_every and writes % faults.late_every == 0:
            held.append((told, last))
            people.watermark = last
        else:
            apply(told, last)

    people.apply = applied  # type: ignore[method-assign]


def events(n: int, seed: int) -> list[Event]:
    """In time order, but for some that were on their way for hours."""
    draw, at, found = random.Random(seed), START, []
    for number in range(n):
        at += timedelta(seconds=draw.choice((0, 0.25, 40, 900, 9_000)))
        late = timedelta(hours=draw.choice((0, 0, 0, 0, 0, 0, 0, 5)))
        kind = draw.choice(tuple(EventType))
        user = draw.choice(("", *USERS))
        session = draw.choice(("", *SESSIONS)) or ("" if user else "s1")
        value = draw.choice((1.5, 4.0)) if kind is EventType.RATING or draw.random() < 0.3 else None
        item = f"i{draw.randrange(ITEMS + 3)}"
        found.append(Event(f"replayed-{number}", kind, item, at - late, user, session, value))
    return found


async def replay(shop: Shop, log: Iterable[Event], seed: int) -> None:
    """Every event by itself or a few together, an answer after most of them, prices that change, and one restart."""
    draw, waiting, log = random.Random(seed), [], list(log)
    await shop.follow()
    for n, event in enumerate(log):
        waiting.append(event)
        if draw.random() < 0.3:
            continue
        await shop.service.record(waiting)
        waiting.clear()
        if draw.random() < 0.1:
            await shop.put(priced(f"i{draw.randrange(ITEMS)}", draw))
        if n == int(len(log) * RESTART):
            await shop.again()
        await shop.answer(somebody(event, draw), event.occurred_at + timedelta(seconds=2))
    await shop.service.close()


def priced(item_id: str, draw: random.Random) -> Item:
    return Item(
        item_id, f"Item {item_id}", categories=(draw.choice("abc"),), price=draw.choice((None, 2.5, 9.99, 120.0))
    )


def somebody(event: Event, draw: random.Random) -> Person:
    """Whoever acted, mostly."""
    if draw.random() < 0.8:
        return Person(event.user_id, event.session_id)
    return draw.choice([*(Person(user) for user in USERS), *(Person(session_id=session) for session in SESSIONS)])


@dataclass(frozen=True)
class Expected:
    """A fault and what must be named of it; `alone`: and nothing else, for what it does not touch is equal still."""

    faults: Faults
    named: frozenset[str]
    alone: bool


def priced_in_pence(item: Item) -> Item:
    return replace(item, price=item.price and item.price * 100)


HOUR = timedelta(hours=1)
FAULTS = {
    "a late write": Expected(Faults(late_every=5), frozenset({"history.at", "events", "user_log_events"}), False),
    "a changed unit": Expected(Faults(item=priced_in_pence), frozenset({"user_mean_log_price"}), True),
    "a null default": Expected(
        Faults(event=lambda event: replace(event, value=event.value or 0.0)),
        frozenset({"history.values", "user_last_value", "user_mean_value"}),
        True,
    ),
    "a time zone in the writer of states": Expected(
        Faults(event=lambda event: replace(event, occurred_at=event.occurred_at + HOUR)),
        frozenset({"history.at", "user_log_days_since_last"}),
        False,
    ),
    "a time zone of the clock": Expected(
        Faults(context=lambda context: replace(context, at=context.at and context.at + HOUR)),
        frozenset({"context_hour", "context_weekday", "user_log_days_since_last"}),
        True,
    ),
}
