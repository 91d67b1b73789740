"""The platform inside a command: no face, no lock, nothing written, so it also works beside a platform that serves the
same home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.models import champion_bundle, registry_of
from winnow.catalogue import Catalogue, Rows, catch_up
from winnow.errors import FailedPrecondition
from winnow.requests import Readiness
from winnow.types import CataloguePage, Event, Item, Person, Receipt, UserState

if TYPE_CHECKING:
    from services.gateway.recommender import Gateway

Through = Callable[[str, Any], Any]
"""Given a service's name and its port, the port that the gateway sees."""


class ReadOnlyFeatures:
    """A home's people and items as they are on disk now; takes no write."""

    def __init__(self, home: Path) -> None:
        from services.feature.build import traits
        from services.feature.items import ItemLog
        from services.feature.store import People
        from winnow.acts import COLUMNS, journal
        from winnow.canonical import EVENTS, ITEMS
        from winnow.home import check_complete, events_folder, items_folder
        from winnow.segments import parts, whole

        check_complete(home)
        self._people = People(journal(parts(events_folder(home), EVENTS, COLUMNS)), traits(home))
        self._items = ItemLog(whole(items_folder(home), ITEMS))

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        return [self._people.state(person) for person in people]

    async def catalogue(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        return await self._items.page(after, limit, images)

    async def ready(self) -> Readiness:
        return Readiness(True)

    async def record(self, events: Sequence[Event]) -> Receipt:
        raise FailedPrecondition("this view of the home takes no events")

    async def put_items(self, items: Sequence[Item]) -> Receipt:
        raise FailedPrecondition("this view of the home takes no items")


@asynccontextmanager
async def embedded(home: Path, through: Through = lambda _, port: port) -> AsyncIterator[Gateway]:
    """A gateway over the champions of a home's registry."""
    from services.all import Settings
    from services.explanation import build as explanation
    from services.gateway import build as gateway
    from services.ranking import build as ranking
    from services.retrieval import build as retrieval

    settings, catalogue, features = Settings(home=home), Catalogue(images=True), ReadOnlyFeatures(home)
    registry = registry_of(home, settings.registry_uri)
    await everything(catalogue, features)
    retrieving, rating = retrieval.build(settings, catalogue), ranking.build(settings, catalogue)
    explaining = explanation.build(settings, catalogue)
    try:
        found = champion_bundle(registry, "retrieval")
        retrieving.use(retrieval.load_bundle(retrieving, found))
        explaining.use(explanation.load_bundle(found))
        rating.use(ranking.load_bundle(rating, champion_bundle(registry, "ranking")))
        yield gateway.build(
            settings,
            catalogue,
            through("feature", features),
            through("retrieval", retrieving),
            through("ranking", rating),
            through("explanation", explaining),
        )
    finally:
        retrieving.close()
        rating.close()


async def everything(catalogue: Catalogue, features: ReadOnlyFeatures) -> None:
    """Read the whole item log."""

    def nobody(rows: Rows) -> None:
        """Nothing keeps tables yet."""

    while await catch_up(catalogue, features, nobody):
        pass
