"""A catalogue that follows the item log: complete once it was read, soon after a write, whatever happens meanwhile."""

import asyncio

import pytest

from winnow.catalogue import Catalogue, Rows, follow
from winnow.errors import ResourceExhausted, Unavailable, WinnowError
from winnow.types import CataloguePage, Item


class ItemLog:
    """The part of a Features port that is followed, in ten lines."""

    def __init__(self, *item_ids: str) -> None:
        self.items = [Item(item_id) for item_id in item_ids]
        self.trouble: WinnowError | None = None

    async def catalogue(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        if self.trouble:
            raise self.trouble
        page = self.items[after : after + limit]
        return CataloguePage(tuple(page), after + len(page), after + len(page) < len(self.items))


def ignore(rows: Rows) -> None:
    """No table to keep."""


def following(log: ItemLog, catalogue: Catalogue, every_s: float = 60.0) -> asyncio.Task[None]:
    return asyncio.create_task(follow(catalogue, log, ignore, page=2, every_s=every_s))  # type: ignore[arg-type]


async def test_it_is_complete_only_when_every_page_was_read() -> None:
    catalogue, log = Catalogue(), ItemLog("a", "b", "c", "d", "e")
    seen: list[tuple[int, bool]] = []

    def note(rows: Rows) -> None:
        seen.append((len(catalogue), catalogue.complete.is_set()))

    task = asyncio.create_task(follow(catalogue, log, note, page=2))  # type: ignore[arg-type]
    await asyncio.wait_for(catalogue.complete.wait(), 5)
    task.cancel()
    assert seen == [(2, False), (4, False), (5, False)]


async def test_whoever_waits_for_a_write_does_not_wait_for_the_next_look() -> None:
    catalogue, log = Catalogue(), ItemLog("a")
    task = following(log, catalogue)
    await asyncio.wait_for(catalogue.complete.wait(), 5)
    for item_id in ("b", "c"):
        log.items.append(Item(item_id))
        await asyncio.wait_for(catalogue.reach(len(log.items)), 5)
        assert item_id in catalogue
    task.cancel()


@pytest.mark.parametrize("trouble", [Unavailable("away"), ResourceExhausted("busy"), WinnowError("from tomorrow")])
async def test_a_feature_service_in_trouble_is_waited_for(trouble: WinnowError) -> None:
    catalogue, log = Catalogue(), ItemLog("a")
    log.trouble = trouble
    task = following(log, catalogue, every_s=0.01)
    await asyncio.sleep(0.05)
    assert not task.done()
    assert not catalogue.complete.is_set()
    log.trouble = None
    await asyncio.wait_for(catalogue.complete.wait(), 5)
    task.cancel()
