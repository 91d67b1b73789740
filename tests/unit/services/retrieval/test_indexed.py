"""A bundle is searched by whatever its index is, or the settings name: exchanged under load, current, and lost alone."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from milvus_lite import server_manager_instance

from services.retrieval import build as building
from services.retrieval.indexes import milvus
from services.retrieval.settings import Settings
from tests.bundles import STATS_AT, make_user, tiny_retrieval_bundle
from tests.retrievals import Shop, put
from winnow.errors import FailedPrecondition
from winnow.ports import RetrieveQuery
from winnow.types import Candidates

USER = make_user("u1", ["i3", "i5", "i8"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.make(tmp_path_factory.mktemp("shop"), n=100)


@pytest.mark.parametrize("kind", ["ivf_pq", "hnsw_sq8", "milvus"])
async def test_a_bundle_of_another_kind_takes_over_under_load_and_no_request_fails(
    shop: Shop, kind: str, tmp_path: Path
) -> None:
    newer = tiny_retrieval_bundle(tmp_path / "newer", shop.items, seed=1, index="flat" if kind == "milvus" else kind)
    base = tmp_path / "milvus.db"
    indexed = building.indexed_by(Settings(milvus_uri=str(base) if kind == "milvus" else ""))
    catalogue = shop.catalogue()
    with closing(shop.retrieve(catalogue)) as service:
        served: list[Candidates] = []

        async def asking() -> None:
            while not served or served[-1].bundle != newer.id:
                served.extend(await service.retrieve([RetrieveQuery(USER, 50)]))

        async with asyncio.timeout(30):
            tasks = [asyncio.create_task(asking()) for _ in range(2)]
            model = await asyncio.to_thread(building.load_bundle, service, newer, None, indexed)
            service.use(model)
            await asyncio.gather(*tasks)
        assert model.bundle.index.kind == kind
        assert {found.bundle for found in served} == {shop.retrieval.id, newer.id}
        assert all(len(found) == 50 and not found.skipped for found in served)
        put(service, catalogue, replace(shop.items[8], item_id="brand new", created_at=STATS_AT))
        await service.settled()
        [found] = await service.retrieve([RetrieveQuery(USER, 200)])
        assert "tower" in found.sources_of(found.item_ids.tolist().index("brand new"))
    server_manager_instance.release_server(str(base))


async def test_without_its_milvus_retrieval_answers_without_the_tower(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(tmp_path / "milvus.db")
    with closing(shop.retrieve()) as service:
        service.use(building.load_bundle(service, shop.retrieval, None, building.indexed_by(Settings(milvus_uri=base))))
        [whole] = await service.retrieve([RetrieveQuery(USER, 40)])
        monkeypatch.setattr(milvus, "TIMEOUT_S", 1.0)  # only now: an embedded Milvus may begin slowly
        await asyncio.to_thread(server_manager_instance.release_server, base)
        [found] = await service.retrieve([RetrieveQuery(USER, 40)])
    assert (whole.skipped, found.skipped) == ((), ("tower",))
    assert len(whole) == len(found) == 40
    assert np.count_nonzero(whole.sources & 1) > 0


def test_a_gpu_that_is_not_here_is_said_when_the_bundle_is_loaded(shop: Shop) -> None:
    with closing(shop.retrieve()) as service, pytest.raises(FailedPrecondition, match="GPU"):
        building.load_bundle(service, shop.retrieval, None, building.indexed_by(Settings(retrieval_gpu=True)))
