"""New items: servable within seconds of being written, and never below the floor of exposure that is set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from services.gateway import build
from services.gateway.new_items import NewItems
from services.gateway.recommender import Gateway
from services.gateway.settings import Settings
from services.ranking.service import RankingService
from services.retrieval.service import RetrievalService
from services.retrieval.settings import Settings as RetrievalSettings
from tests.bundles import STATS_AT
from tests.gateways import Inner
from tests.retrievals import Shop, put
from winnow.catalogue import Catalogue
from winnow.requests import RecommendRequest
from winnow.types import Context, Item, Person, strings

CANDIDATES, PAGE, NEW = 100, 10, 30
SERVABLE_S = 5.0
NOW = STATS_AT + timedelta(days=1)
PEOPLE = [Person(user_id=f"somebody {n}") for n in range(20)]
FRESH = RetrievalSettings.model_fields["retrieval_shares"].default["fresh"]


@dataclass
class Platform:
    """A gateway over real retrieval and ranking with random weights, which know nothing of what came after them."""

    catalogue: Catalogue
    retrieval: RetrievalService
    ranking: RankingService
    new: list[Item]

    def gateway(self, **settings: Any) -> Gateway:
        chosen = Settings(candidates=CANDIDATES, retrieval_budget_ms=20_000, ranking_budget_ms=20_000, **settings)
        return build.build(chosen, self.catalogue, Inner(), self.retrieval, self.ranking, Inner())

    def pages(self, offset: int = 0, n: int = PAGE, **settings: Any) -> list[list[str]]:
        """What everybody is shown."""
        asked = [RecommendRequest(one, context=Context(at=NOW), offset=offset, n=n) for one in PEOPLE]
        answers = asyncio.run(self.gateway(**settings).recommend(asked))
        assert all(answer.skipped == () for answer in answers)
        return [[line.item_id for line in answer.items] for answer in answers]

    def share(self, pages: Sequence[Sequence[str]]) -> float:
        """Of all places, those of new items."""
        return float(np.mean([item_id.startswith("new") for page in pages for item_id in page]))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    shop = Shop.make(tmp_path_factory.mktemp("shop"), n=400)
    catalogue = shop.catalogue([replace(item, created_at=STATS_AT - timedelta(days=400)) for item in shop.items])
    catalogue.advance(len(shop.items), complete=True)
    new = [replace(shop.items[n], item_id=f"new {n}", created_at=STATS_AT) for n in range(NEW)]
    with closing(shop.retrieve(catalogue)) as retrieval, closing(shop.rank(catalogue)) as ranking:
        yield Platform(catalogue, retrieval, ranking, new)


@pytest.fixture(scope="module")
def written_s(platform: Platform) -> float:
    """Seconds from the write of the new items until the first answer that can hold them."""

    async def write() -> float:
        started = time.monotonic()
        for service in (platform.retrieval, platform.ranking):
            put(service, platform.catalogue, *platform.new)
        await platform.retrieval.settled()
        [answer] = await platform.gateway(new_items_share=0.5).recommend([RecommendRequest(PEOPLE[0], n=PAGE)])
        assert answer.items
        return time.monotonic() - started

    return asyncio.run(write())


def test_what_was_written_can_be_answered_within_seconds(platform: Platform, written_s: float) -> None:
    assert written_s < SERVABLE_S
    assert platform.share(platform.pages(new_items_share=0.5)) >= 0.5


@pytest.mark.usefixtures("written_s")
def test_the_source_of_new_items_brings_its_share_of_the_candidates(platform: Platform) -> None:
    pages = platform.pages(n=CANDIDATES)
    assert all(len(page) == CANDIDATES for page in pages)
    assert platform.share(pages) >= FRESH
    assert all(platform.share([page]) >= FRESH for page in pages)


@pytest.mark.usefixtures("written_s")
@pytest.mark.parametrize("share", [0.1, 0.2])
def test_every_page_keeps_the_floor(platform: Platform, share: float) -> None:
    for offset in (0, PAGE):
        pages = platform.pages(offset, new_items_share=share)
        assert all(platform.share([page]) >= share for page in pages)


@pytest.mark.usefixtures("written_s")
def test_without_a_floor_the_models_alone_decide_and_with_one_the_others_keep_their_order(platform: Platform) -> None:
    """The test above can fail."""
    plain = platform.pages()
    assert min(platform.share([page]) for page in plain) < 0.1
    for page, lifted in zip(plain, platform.pages(new_items_share=0.2), strict=True):
        others = [item_id for item_id in lifted if not item_id.startswith("new")]
        assert others == [item_id for item_id in page if not item_id.startswith("new")][: len(others)]


@pytest.mark.usefixtures("written_s")
def test_an_item_is_new_from_its_first_day_to_its_last(platform: Platform) -> None:
    order, ids = np.arange(3), strings(["i1", "i2", platform.new[0].item_id])
    floor = NewItems(platform.catalogue, 0.5, days=14)
    assert floor.lifted(order, ids, NOW).tolist() == [0, 2, 1]
    assert floor.lifted(order, ids, STATS_AT + timedelta(days=15)).tolist() == [0, 1, 2]
    assert floor.lifted(order, ids, STATS_AT - timedelta(days=1)).tolist() == [0, 1, 2], "it comes later"
    assert floor.lifted(order, strings(["i1", "gone", "i2"]), NOW).tolist() == [0, 1, 2]
    assert NewItems(platform.catalogue, 0.0, days=14).lifted(order, ids, NOW) is order
