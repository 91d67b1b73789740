"""The tables follow the catalogue: what is written is served, what is sold out is not, and bundles are swapped."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.retrieval import build as building
from services.retrieval.model import Model
from services.retrieval.settings import Settings
from tests.bundles import SOURCES, STATS_AT, make_items, make_user, tiny_retrieval_bundle
from tests.retrievals import Shop, put
from winnow.catalogue import Catalogue
from winnow.errors import FailedPrecondition, NotFound, Unavailable
from winnow.features import item_digest
from winnow.filters import Op, Term
from winnow.ports import RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.types import Candidates, Floats, Item, strings

USER = make_user("u1", ["i3", "i5", "i8"])
TOWER = SOURCES.index("tower")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.make(tmp_path_factory.mktemp("shop"), n=120)


async def test_before_its_first_bundle_it_is_not_ready_and_says_what_is_missing(shop: Shop) -> None:
    with closing(building.build(Settings(), shop.catalogue())) as service:
        readiness = await service.ready()
        assert (readiness.ready, readiness.missing) == (False, ("retrieval bundle",))
        for call in (
            service.retrieve([]),
            service.similar(SimilarQuery(("i1",), 3)),
            service.trending(TrendingQuery(3)),
        ):
            with pytest.raises(FailedPrecondition):
                await call


async def test_a_new_item_is_served_at_once_by_tower_and_text(shop: Shop) -> None:
    catalogue = shop.catalogue()
    new = replace(shop.items[8], item_id="brand new", title="Zanzibar nights", created_at=STATS_AT)
    with closing(shop.retrieve(catalogue)) as service:
        put(service, catalogue, new)
        await service.settled()
        [everything] = await service.retrieve([RetrieveQuery(USER, 500)])
        [named] = await service.retrieve([RetrieveQuery(USER, 10, query="zanzibar")])
        beside = await service.similar(SimilarQuery(("brand new",), 3))
    place = everything.item_ids.tolist().index("brand new")
    assert {"tower", "fresh"} <= set(everything.sources_of(place))
    assert everything.scores[place, TOWER] != 0
    assert named.item_ids[0] == "brand new"
    assert len(beside) == 3


async def test_an_item_asked_about_right_after_it_was_written_is_known(shop: Shop) -> None:
    catalogue = shop.catalogue()
    with closing(shop.retrieve(catalogue)) as service:
        put(service, catalogue, replace(shop.items[8], item_id="just written"))
        beside = await service.similar(SimilarQuery(("just written",), 3))
    assert len(beside) == 3
    assert beside.scores[:, TOWER].max() > 0.1  # an item without a vector is as near to one as to another


async def test_what_goes_with_a_changed_item_goes_with_what_it_is_now(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retrieval.service.OUTDATED_S", 20.0)
    changed = replace(shop.items[50], brand="brand7", categories=("War",))
    catalogue, encode = shop.catalogue(), Model.encode

    def slowly(model: Model, items: Sequence[Item]) -> Floats:
        time.sleep(0.2)
        return encode(model, items)

    with closing(shop.retrieve(catalogue)) as service:
        put(service, catalogue, changed)
        await service.settled()
        settled = await service.similar(SimilarQuery(("i50",), 10))
        put(service, catalogue, shop.items[50])
        await service.settled()
        before = await service.similar(SimilarQuery(("i50",), 10))
        monkeypatch.setattr(Model, "encode", slowly)
        put(service, catalogue, changed)
        at_once = await service.similar(SimilarQuery(("i50",), 10))
    assert before.scores.tolist() != settled.scores.tolist()
    assert at_once.item_ids.tolist() == settled.item_ids.tolist()
    np.testing.assert_allclose(at_once.scores, settled.scores, atol=1e-6)


async def test_while_its_new_vector_cannot_be_had_a_changed_item_keeps_its_old_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = shop.catalogue()
    with closing(shop.retrieve(catalogue)) as service:
        before = await service.similar(SimilarQuery(("i50",), 10))

        def away(*_: object) -> Floats:
            raise Unavailable("the towers are away")

        monkeypatch.setattr(Model, "encode", away)
        put(service, catalogue, replace(shop.items[50], brand="brand7", categories=("War",)))
        async with asyncio.timeout(5):
            after = await service.similar(SimilarQuery(("i50",), 10))
    assert after.scores.tolist() == before.scores.tolist()


async def test_an_asker_who_knows_more_of_the_catalogue_is_waited_with_for_a_moment(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.retrieval.service.BEHIND_S", 0.05)
    catalogue = shop.catalogue()
    position = catalogue.watermark + 1
    with closing(shop.retrieve(catalogue)) as service:
        with pytest.raises(NotFound):
            await service.similar(SimilarQuery(("later",), 3, catalogue=position))
        monkeypatch.setattr("services.retrieval.service.BEHIND_S", 20.0)
        asking = asyncio.create_task(service.similar(SimilarQuery(("later",), 3, catalogue=position)))
        await asyncio.sleep(0.01)
        assert not asking.done()
        put(service, catalogue, replace(shop.items[8], item_id="later"))
        catalogue.advance(position, complete=True)
        assert len(await asking) == 3
        assert len(await service.similar(SimilarQuery(("later",), 3, catalogue=position))) == 3


async def test_queries_of_one_filter_share_its_rows_until_something_is_written(shop: Shop) -> None:
    """A search recognises rows that are shared; rows that are remembered must not outlive a write."""
    catalogue = shop.catalogue()

    def war() -> Term:
        return Term("categories", Op.IN, ("War",))

    with closing(shop.retrieve(catalogue)) as service:
        rows = service._mask(war())
        assert service._mask(war()) is rows
        [before] = await service.retrieve([RetrieveQuery(USER, 200, filter=war())])
        put(service, catalogue, replace(shop.items[50], categories=("War",) if not rows[50] else ("Peace",)))
        await service.settled()
        [after] = await service.retrieve([RetrieveQuery(USER, 200, filter=war())])
    assert set(before.item_ids) ^ set(after.item_ids) == {"i50"}


async def test_an_item_that_is_sold_out_is_gone_from_the_next_answer(shop: Shop) -> None:
    catalogue = shop.catalogue()
    with closing(shop.retrieve(catalogue)) as service:
        [before] = await service.retrieve([RetrieveQuery(USER, 200)])
        put(service, catalogue, replace(shop.items[50], available=False))
        [after] = await service.retrieve([RetrieveQuery(USER, 200)])
        put(service, catalogue, shop.items[50])
        [again] = await service.retrieve([RetrieveQuery(USER, 200)])
    assert set(before.item_ids) - set(after.item_ids) == {"i50"}
    assert set(again.item_ids) == set(before.item_ids)


async def test_unchanged_items_take_the_bundles_vector_and_changed_ones_their_own(shop: Shop) -> None:
    catalogue = shop.catalogue()
    with closing(shop.retrieve(catalogue)) as service:
        put(service, catalogue, replace(shop.items[50], brand="brand7", categories=("War",)))
        await service.settled()
        model = service._model
        assert model is not None
        rows = catalogue.rows([item.item_id for item in shop.items])
        same = (model.vectors[rows] == model.bundle.vectors).all(axis=1)
        assert np.flatnonzero(~same).tolist() == [50]
        expected = model.encode([catalogue.item(int(rows[50]))])[0]
        np.testing.assert_allclose(model.vectors[rows[50]], expected, atol=1e-6)
        found, nearest = model.bundle.index.search(expected[None], 1, None, [np.empty(0, np.int64)])
    assert nearest[0, 0] == rows[50]
    assert found[0, 0] == pytest.approx(1.0, abs=1e-5)


async def test_a_catalogue_that_arrives_after_the_bundle_is_served_page_by_page(shop: Shop) -> None:
    catalogue = Catalogue()
    with closing(shop.retrieve(catalogue)) as service:
        for start in range(0, 120, 50):
            put(service, catalogue, *shop.items[start : start + 50])
        await service.settled()
        [late] = await service.retrieve([RetrieveQuery(USER, 200)])
    with closing(shop.retrieve(shop.catalogue(shop.items))) as service:
        [early] = await service.retrieve([RetrieveQuery(USER, 200)])
    assert late.item_ids.tolist() == early.item_ids.tolist()
    np.testing.assert_allclose(late.scores, early.scores, atol=1e-6)


async def test_what_was_written_while_a_bundle_was_loaded_is_served_by_it(shop: Shop, tmp_path: Path) -> None:
    catalogue = shop.catalogue()
    newer = tiny_retrieval_bundle(tmp_path / "newer", shop.items, seed=1)
    with closing(shop.retrieve(catalogue)) as service:
        model = building.load_bundle(service, newer)
        put(service, catalogue, Item("meanwhile", "Zanzibar"), replace(shop.items[3], title="Changed"))
        await service.settled()
        service.use(model)
        await service.settled()
        [found] = await service.retrieve([RetrieveQuery(USER, 500, include_seen=True)])
        assert not len(model.stale())
    assert {"meanwhile", "i3"} <= set(found.item_ids)
    assert found.bundle == newer.id


async def test_bundles_are_swapped_between_two_requests_and_none_fails(shop: Shop, tmp_path: Path) -> None:
    newer = tiny_retrieval_bundle(tmp_path / "newer", shop.items, seed=1)
    with closing(shop.retrieve()) as service:
        served: list[Candidates] = []

        async def asking() -> None:
            while not served or served[-1].bundle != newer.id:
                served.extend(await service.retrieve([RetrieveQuery(USER, 50)]))

        async with asyncio.timeout(30):
            task = asyncio.create_task(asking())
            service.use(await asyncio.to_thread(building.load_bundle, service, newer))
            await task
    answers = {found.bundle: found.item_ids.tolist() for found in served}
    assert set(answers) == {shop.retrieval.id, newer.id}
    assert all(found.item_ids.tolist() == answers[found.bundle] for found in served)
    assert all(len(found) == 50 for found in served)


@pytest.mark.parametrize("lost", ["tower", "sequence", "trending", "text"])
async def test_a_source_that_fails_costs_its_candidates_only(
    shop: Shop, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(shop.retrieve()) as service:
        source = next(source for source in service._sources if source.name == lost)

        def fail(*_: object) -> None:
            raise Unavailable(f"{lost} is away")

        monkeypatch.setattr(type(source), "propose", fail)
        [found] = await service.retrieve([RetrieveQuery(USER, 60, query="comedy")])
    assert found.skipped == (lost,)
    assert len(found) == 60
    assert all(lost not in found.sources_of(row) for row in range(60))


async def test_a_bug_in_a_source_is_not_survived(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(shop.retrieve()) as service:

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(type(service._sources[0]), "propose", fail)
        with pytest.raises(ZeroDivisionError):
            await service.retrieve([RetrieveQuery(USER, 60)])


async def test_two_ids_of_one_fingerprint_are_both_left_out(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.retrieval.seen.fingerprint", lambda item_id: len(item_id))
    user = replace(USER, seen=strings([]), seen_tail=np.asarray([3], np.uint32))
    with closing(shop.retrieve()) as service:
        [found] = await service.retrieve([RetrieveQuery(user, 500)])
    assert {len(item_id) for item_id in found.item_ids} == {2, 4}


def test_the_digest_in_a_bundle_is_the_items(shop: Shop) -> None:
    digests = np.load(shop.retrieval.file("item_digests.npy"))
    assert digests.tolist() == [item_digest(item) for item in make_items(120)]


async def test_a_switch_lets_go_of_the_old_model(shop: Shop, request: pytest.FixtureRequest) -> None:
    """Whoever hosts models unloads what nobody holds; serving keeps no cycles, so no collector is needed."""
    gc.collect()
    gc.disable()
    request.addfinalizer(gc.enable)
    catalogue = shop.catalogue()
    with closing(shop.retrieve(catalogue)) as service:
        put(service, catalogue, replace(shop.items[7], item_id="new"))
        await service.settled()
        assert service._model is not None
        old = weakref.ref(service._model)
        service.use(building.load_bundle(service, shop.retrieval))
        await service.settled()
        assert old() is None
