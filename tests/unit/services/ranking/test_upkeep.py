"""Item states follow the catalogue, and bundles are swapped."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.ranking import build as building
from services.ranking.settings import Settings
from tests.bundles import SOURCES, make_user, tiny_ranking_bundle
from tests.retrievals import Shop, put
from winnow.catalogue import Catalogue
from winnow.errors import FailedPrecondition
from winnow.ports import RankQuery
from winnow.types import Candidates, Item, Predictions, strings


def query(*item_ids: str) -> RankQuery:
    n = len(item_ids)
    candidates = Candidates(strings(item_ids), np.ones(n, np.uint32), np.zeros((n, len(SOURCES)), np.float32), SOURCES)
    return RankQuery(make_user("u1", ["i3", "i5"]), candidates)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.make(tmp_path_factory.mktemp("shop"), n=100)


async def test_before_its_first_bundle_it_is_not_ready_and_says_what_is_missing(shop: Shop) -> None:
    with closing(building.build(Settings(), shop.catalogue())) as service:
        readiness = await service.ready()
        assert (readiness.ready, readiness.missing) == (False, ("ranking bundle",))
        with pytest.raises(FailedPrecondition):
            await service.rank([query("i1")])


async def test_a_new_item_is_scored_by_what_it_is(shop: Shop) -> None:
    catalogue = shop.catalogue()
    with closing(shop.rank(catalogue)) as service:
        [before] = await service.rank([query("brand new", "i2")])
        put(service, catalogue, replace(shop.items[7], item_id="brand new"))
        await service.settled()
        [after] = await service.rank([query("brand new", "i2")])
    assert abs(before.heads[0] - after.heads[0]).max() > 1e-4
    np.testing.assert_allclose(before.heads[1], after.heads[1], atol=1e-6)


async def test_a_changed_item_is_scored_anew_and_the_others_stay(shop: Shop) -> None:
    catalogue = shop.catalogue()
    with closing(shop.rank(catalogue)) as service:
        [before] = await service.rank([query("i1", "i2", "i3")])
        put(service, catalogue, replace(shop.items[2], brand="brand9", price=999.0))
        await service.settled()
        [after] = await service.rank([query("i1", "i2", "i3")])
    moved = abs(before.heads - after.heads).max(axis=1) > 1e-6
    assert moved.tolist() == [False, True, False]


async def test_a_catalogue_that_arrives_after_the_bundle_is_scored_the_same(shop: Shop) -> None:
    asked = query(*[f"i{n}" for n in range(100)])
    catalogue = Catalogue()
    with closing(shop.rank(catalogue)) as late, closing(shop.rank()) as early:
        for start in range(0, 100, 30):
            put(late, catalogue, *shop.items[start : start + 30])
        await late.settled()
        [one], [other] = await late.rank([asked]), await early.rank([asked])
    np.testing.assert_allclose(one.heads, other.heads, atol=1e-5)


async def test_what_was_written_while_a_bundle_was_loaded_counts_in_it(shop: Shop, tmp_path: Path) -> None:
    catalogue = shop.catalogue()
    newer = tiny_ranking_bundle(tmp_path / "newer", shop.items, seed=1)
    with closing(shop.rank(catalogue)) as service:
        model = building.load_bundle(service, newer)
        put(service, catalogue, Item("meanwhile", "Zanzibar", brand="brand3"))
        await service.settled()
        service.use(model)
        await service.settled()
        assert not len(model.items.stale())
        [known, unknown] = await service.rank([query("meanwhile"), query("never heard of")])
    assert known.bundle == newer.id
    assert abs(known.heads - unknown.heads).max() > 1e-5


async def test_bundles_are_swapped_between_two_requests_and_none_fails(shop: Shop, tmp_path: Path) -> None:
    newer = tiny_ranking_bundle(tmp_path / "newer", shop.items, seed=1)
    with closing(shop.rank()) as service:
        served: list[Predictions] = []

        async def asking() -> None:
            while not served or served[-1].bundle != newer.id:
                served.extend(await service.rank([query("i1", "i2")]))

        async with asyncio.timeout(30):
            task = asyncio.create_task(asking())
            service.use(await asyncio.to_thread(building.load_bundle, service, newer))
            await task
    heads = {answer.bundle: answer.heads for answer in served}
    assert set(heads) == {shop.ranking.id, newer.id}
    for answer in served:
        np.testing.assert_allclose(answer.heads, heads[answer.bundle], atol=1e-6)


async def test_a_switch_lets_go_of_the_old_model(shop: Shop, request: pytest.FixtureRequest) -> None:
    """Whoever hosts models unloads what nobody holds; serving keeps no cycles, so no collector is needed."""
    gc.collect()
    gc.disable()
    request.addfinalizer(gc.enable)
    catalogue = shop.catalogue()
    with closing(shop.rank(catalogue)) as service:
        put(service, catalogue, replace(shop.items[7], item_id="new"))
        await service.settled()
        assert service._model is not None
        old = weakref.ref(service._model)
        service.use(building.load_bundle(service, shop.ranking))
        await service.settled()
        assert old() is None


async def test_what_is_told_of_items_is_of_the_position_that_is_told_whatever_is_written_meanwhile(shop: Shop) -> None:
    catalogue = shop.catalogue()
    catalogue.advance(100, complete=True)
    with closing(shop.rank(catalogue)) as service:
        [expected] = await service.rank([replace(query("i1"), vector=True)])
        held = threading.Event()
        busy = asyncio.create_task(service._worker.run(held.wait, 10.0))
        asked = asyncio.create_task(service.rank([replace(query("i1"), vector=True)]))
        await asyncio.sleep(0)  # asked, and waiting for the only thread
        put(service, catalogue, *(replace(shop.items[n], price=5_000.0) for n in (3, 5)))
        catalogue.advance(102, complete=True)
        held.set()
        [before], _ = await asked, await busy
        [after] = await service.rank([replace(query("i1"), vector=True)])
    assert expected.vector
    assert before.vector
    assert after.vector
    name = "user_mean_log_price"
    assert (before.vector.catalogue, before.vector.numbers[name]) == (100, expected.vector.numbers[name])
    assert (after.vector.catalogue, after.vector.numbers[name]) == (102, np.log1p(5_000.0))
