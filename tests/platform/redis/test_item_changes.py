"""Whoever follows the catalogue hears of written items by Redis at once, and without Redis a little later."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parts.program import Running
from services.feature.service import FeatureService
from tests.platform.redis.test_hot_states import served, until
from winnow.catalogue import Catalogue, follow
from winnow.item_changes import follow_changes
from winnow.redis import connect
from winnow.types import Item

pytestmark = pytest.mark.platform
LOOKS_S = 20.0  # the catalogue's own look: so late that only the stream can have told


class Follower:
    """A process that holds the catalogue, as the ranking service does."""

    def __init__(self, features: FeatureService, url: str, every_s: float = LOOKS_S) -> None:
        self.catalogue = Catalogue()
        self._tasks = [
            asyncio.create_task(follow(self.catalogue, features, lambda rows: None, every_s=every_s)),
            asyncio.create_task(follow_changes(url, self.catalogue.told)),
        ]

    async def sees(self, price: float) -> None:
        await until(lambda: (item := self.catalogue.get("i1")) is not None and item.price == price)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


async def test_a_written_item_is_visible_within_a_tenth_of_a_second(tmp_path: Path, redis_url: str) -> None:
    async with served(tmp_path, redis_url) as service:
        follower = Follower(service, redis_url)
        await service.put_items([Item("i1", price=0.0)])
        await follower.sees(0.0)
        took = []
        for n in range(1, 100):
            began = time.monotonic()
            await service.put_items([Item("i1", price=float(n))])
            await follower.sees(float(n))
            took.append(time.monotonic() - began)
        assert float(np.median(took)) < 0.1
        assert max(took) < LOOKS_S / 2, "the catalogue's own look told"
        await follower.close()


async def test_what_was_written_while_redis_was_away_is_seen_when_it_returns(
    tmp_path: Path, redis_running: tuple[Running, str], redis_url: str
) -> None:
    async with served(tmp_path, redis_url) as service:
        follower = Follower(service, redis_url)
        await service.put_items([Item("i1", price=0.0)])
        await follower.sees(0.0)
        client: Any = connect(redis_url, 5.0)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        client.flushall()
        await service.put_items([Item("i1", price=1.0)])
        await follower.sees(1.0)
        await until(lambda: service._hot.current)  # type: ignore[attr-defined]
        await service.put_items([Item("i1", price=2.0)])
        await follower.sees(2.0)
        await follower.close()


async def test_without_redis_the_catalogue_looks_by_itself(tmp_path: Path) -> None:
    async with served(tmp_path, "redis://127.0.0.1:1/0", current=False) as service:
        follower = Follower(service, "", every_s=0.1)
        await service.put_items([Item("i1", price=1.0)])
        await follower.sees(1.0)
        await follower.close()


async def test_an_entry_of_something_else_does_no_harm(tmp_path: Path, redis_url: str) -> None:
    client: Any = connect(redis_url, 5.0)
    async with served(tmp_path, redis_url) as service:
        follower = Follower(service, redis_url)
        await service.put_items([Item("i1", price=1.0)])
        await follower.sees(1.0)
        client.xadd("winnow:items", {"watermark": "-5x", "what": "is this"})
        client.xadd("winnow:items", {"watermark": "999999"})
        await service.put_items([Item("i1", price=2.0)])
        await follower.sees(2.0)
        await follower.close()
