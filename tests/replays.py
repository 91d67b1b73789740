"""A shop replayed through feature service, ranker and gateway, with answers in between whose lines are kept; and what may
go wrong in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.feature.service import FeatureService
from services.gateway.build import rules_file
from services.gateway.decisions import DecisionLog
from services.gateway.inner import Inner as Parts
from services.gateway.popular import Popular
from services.gateway.recommender import Gateway
from services.gateway.rules import RuleBook
from services.gateway.settings import Settings
from services.ranking import build as ranking
from services.ranking.service import RankingService
from tests.bundles import tiny_ranking_bundle
from tests.events import features
from tests.gateways import Inner
from tests.homes import BUDGETS
from winnow.artifacts import Bundle
from winnow.catalogue import Catalogue, catch_up
from winnow.ports import Features, RankQuery
from winnow.requests import Readiness, RecommendRequest
from winnow.topics import Record
from winnow.types import CataloguePage, Context, Event, EventType, Item, Person, Predictions

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
class Kept:
    """An outlet of decisions that keeps their lines."""

    lines: list[bytes] = field(default_factory=list)

    def deliver(self, records: Sequence[Record]) -> None:
        self.lines += [record.value for record in records]

    def idle(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to let go."""


@dataclass
class FaultyRanking:
    """The ranking service, told of another moment than the gateway's."""

    service: RankingService
    faults: Faults

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        return await self.service.rank([replace(one, context=self.faults.context(one.context)) for one in queries])

    async def ready(self) -> Readiness:
        return await self.service.ready()


@dataclass
class Shop:
    """A running feature service, a ranker and a gateway with a catalogue each, and the lines of what was served. The
    gateway reads the item log more seldom than the ranker."""

    home: Path
    bundle: Bundle
    faults: Faults = field(default_factory=Faults)
    kept: Kept = field(default_factory=Kept)
    ranks: Catalogue = field(default_factory=Catalogue)
    shows: Catalogue = field(default_factory=Catalogue)

    def __post_init__(self) -> None:
        self.service = self._started()
        self.ranking = ranking.build(ranking.Settings(), self.ranks)
        self.ranking.use(ranking.load_bundle(self.ranking, self.bundle))
        self.puts = 0

    async def again(self) -> None:
        """A restart, which reads the log anew."""
        await self.service.close()
        self.service = self._started()

    async def put(self, item: Item) -> None:
        await self.service.put_items([item])
        self.puts += 1
        await self.follow(shown=self.puts % 3 == 0)

    async def follow(self, *, shown: bool = True) -> None:
        while await catch_up(self.ranks, Spoilt(self.service, self.faults), self.ranking.changed, page=PAGE):
            pass
        while shown and await catch_up(self.shows, self.service, lambda _: None, page=PAGE):
            pass

    async def answer(self, person: Person, at: datetime) -> None:
        gateway = self._gateway
        gateway._inner = replace(gateway._inner, features=self.service)  # which may have been started again
        await gateway.recommend([RecommendRequest(person, n=3, context=Context(surface="home", device="phone", at=at))])

    async def opened(self) -> None:
        """From here on answers are logged."""
        nearby, log = Inner(), DecisionLog(self.kept, queue_bytes=2**26)
        rating = FaultyRanking(self.ranking, self.faults)
        popular, settings = Popular(self.shows, 100), Settings(**BUDGETS)
        parts = Parts(self.service, nearby, rating, nearby, popular, settings)
        self._gateway = Gateway(parts, self.shows, settings, log, RuleBook(rules_file(settings)))
        self._logging = asyncio.create_task(log.run())
        await asyncio.sleep(0)

    async def closed(self) -> None:
        self._logging.cancel()
        await asyncio.gather(self._logging, return_exceptions=True)
        self.ranking.close()
        await self.service.close()

    def _started(self) -> FeatureService:
        service = features(self.home)
        spoil(service, self.faults)
        return service


@dataclass
class Spoilt:
    """The item log as a faulty ranker reads it."""

    features: Features
    faults: Faults

    async def catalogue(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        page = await self.features.catalogue(after, limit, images)
        return replace(page, items=tuple(map(self.faults.item, page.items)))


def bundle_for(folder: Path) -> Bundle:
    """A ranker of the shop's items."""
    return tiny_ranking_bundle(folder, [priced(f"i{n}", random.Random(n)) for n in range(ITEMS)])


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
    await shop.opened()
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
    await shop.closed()


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
