"""Triton as the home of the models: switches under load, and what is served while it is frozen, gone or half dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from bench.processes import running as platform_running
from services.ranking import build as ranking_build
from services.ranking.service import Model, RankingService
from services.retrieval import build as retrieval_build
from services.retrieval.service import RetrievalService
from tests.bundles import SOURCES, make_items, make_user, tiny_ranking_bundle, tiny_retrieval_bundle
from tests.homes import PATIENT, copy_of, registry_of
from tests.tritons import Server, serving, small_bundle
from training.dataset import load as load_dataset
from winnow.artifacts import Bundle, Kind, seal
from winnow.catalogue import Catalogue
from winnow.errors import DeadlineExceeded, Unavailable, WinnowError
from winnow.inference import InProcess, ModelHost
from winnow.model_repository import ModelRepository, name_of
from winnow.ports import RankQuery, RetrieveQuery
from winnow.registry import Version
from winnow.serving.bundles import BundleFollower
from winnow.serving.model_host import TritonHost
from winnow.serving.triton import TritonServer
from winnow.types import Candidates, strings

pytestmark = pytest.mark.platform

ITEMS = make_items(120)
SWITCHES = 20
CALLERS = 4
SHORT_S = 0.3  # for a call, where Triton is to be late
KEEP_S = 3.0  # far more than a lease is renewed late


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("triton")) as running:
        yield running


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Two good ranking bundles and one whose sample scores are not what its model says."""
    folder = tmp_path_factory.mktemp("bundles")
    made = {name: tiny_ranking_bundle(folder / name, ITEMS, seed=seed) for seed, name in enumerate(("one", "two"))}
    corrupt = tiny_ranking_bundle(folder / "corrupt", ITEMS, seed=7)
    with np.load(corrupt.file("samples.npz")) as stored:
        samples = dict(stored) | {"cross.out.heads": stored["cross.out.heads"] + np.float32(0.01)}
    np.savez(corrupt.file("samples.npz"), **samples)
    (corrupt.path / "manifest.json").unlink()
    return made | {"corrupt": seal(corrupt.path, "ranking", facts=corrupt.facts, metrics={}, data={})}


def catalogue() -> Catalogue:
    made = Catalogue()
    made.upsert(ITEMS)
    return made


def query() -> RankQuery:
    ids = strings([item.item_id for item in ITEMS[:50]])
    candidates = Candidates(ids, np.ones(50, np.uint32), np.zeros((50, len(SOURCES)), np.float32), SOURCES)
    return RankQuery(make_user("u1", ["i3", "i5"]), candidates)


def where(host: ModelHost) -> str:
    """As settings say it; nothing is asked there but by the host."""
    return "" if isinstance(host, InProcess) else "127.0.0.1:1"


def ranking(bundle: Bundle, host: ModelHost) -> RankingService:
    settings = ranking_build.Settings(ranking_threads=CALLERS, triton_address=where(host))
    service = ranking_build.build(settings, catalogue())
    service.use(ranking_build.load_bundle(service, bundle, host))
    return service


def retrieval(bundle: Bundle, host: ModelHost) -> RetrievalService:
    service = retrieval_build.build(retrieval_build.Settings(triton_address=where(host)), catalogue())
    service.use(retrieval_build.load_bundle(service, bundle, host))
    return service


async def heads_of(bundle: Bundle) -> Any:
    with closing(ranking(bundle, InProcess())) as service:
        return (await service.rank([query()]))[0].heads


async def until(done: Callable[[], Any], seconds: float = 60.0) -> None:
    """Returns once `done()` (awaitable or not) is true and raises no error of the platform."""
    end = time.monotonic() + seconds
    while True:
        with suppress(WinnowError):
            found = done()
            if await found if asyncio.iscoroutine(found) else found:
                return
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.05)


@dataclass
class Shelf:
    """A registry of a few lines: the champion is what `alias` says."""

    bundles: dict[str, Bundle]
    alias: str

    def champion(self, kind: Kind) -> Version:
        return Version(kind, self.alias, self.bundles[self.alias].id)

    def fetch(self, version: Version) -> Path:
        return self.bundles[version.number].path


@pytest.mark.parametrize("shared", [False, True], ids=["by value", "by shared memory"])
async def test_twenty_switches_under_load_lose_no_request_and_mix_no_bundles(
    server: Server, bundles: dict[str, Bundle], shared: bool
) -> None:
    expected = {bundles[name].id: await heads_of(bundles[name]) for name in ("one", "two")}
    shelf, answers, stop = Shelf(bundles, "one"), 0, asyncio.Event()
    with closing(server.host(shared=shared, timeout_s=20.0)) as host, closing(ranking(bundles["one"], host)) as service:

        def load(bundle: Bundle) -> Model:
            return ranking_build.load_bundle(service, bundle, host)

        async def call() -> None:
            nonlocal answers
            while not stop.is_set():
                [answer] = await service.rank([query()])
                np.testing.assert_allclose(answer.heads, expected[answer.bundle], atol=1e-5)
                answers += 1

        follower = BundleFollower(shelf, "ranking", load, service.use)  # type: ignore[arg-type]
        callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
        assert await follower.look()
        for n in range(SWITCHES):
            shelf.alias = "two" if n % 2 == 0 else "one"
            assert await follower.look()
            before = answers
            await until(lambda before=before: answers >= before + CALLERS)
        shelf.alias = "corrupt"
        assert not await follower.look()
        [kept] = await service.rank([query()])
        assert kept.bundle == bundles["one"].id
        stop.set()
        await asyncio.gather(*callers)
    assert answers >= SWITCHES * CALLERS


@pytest.fixture
async def pair(
    server: Server, bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[RankingService, RetrievalService]]:
    """Both services on one host, with short time-outs; Triton runs again afterwards."""
    found = tiny_retrieval_bundle(tmp_path_factory.mktemp("retrieval") / "bundle", ITEMS)
    with (
        closing(server.host(timeout_s=20.0, every_s=0.2)) as host,
        closing(ranking(bundles["one"], host)) as rank,
        closing(retrieval(found, host)) as retrieve,
    ):
        shorten(host)
        yield rank, retrieve


def shorten(host: TritonHost) -> None:
    """From here on calls are short of time; a bundle is loaded with patience."""
    for model in host._held:
        model._timeout_s = SHORT_S


async def works(pair: tuple[RankingService, RetrievalService]) -> bool:
    await pair[0].rank([query()])
    [candidates] = await pair[1].retrieve([RetrieveQuery(make_user("u1", ["i3"]), 20)])
    return candidates.skipped == ()


async def lost(pair: tuple[RankingService, RetrievalService]) -> None:
    """Ranking says that it cannot; retrieval answers without its tower, and says so."""
    with pytest.raises((Unavailable, DeadlineExceeded)):
        await pair[0].rank([query()])
    [candidates] = await pair[1].retrieve([RetrieveQuery(make_user("u1", ["i3"]), 20)])
    assert candidates.skipped == ("tower",)
    assert len(candidates.item_ids) == 20


async def test_a_frozen_triton_costs_a_deadline_then_nothing_and_is_used_again_when_it_thaws(
    server: Server, pair: tuple[RankingService, RetrievalService]
) -> None:
    await until(lambda: works(pair))
    server.running.freeze()
    try:
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await pair[0].rank([query()])
        began = time.monotonic()
        with pytest.raises(Unavailable, match="asked again"):
            await pair[0].rank([query()])
        assert time.monotonic() - began < SHORT_S
        await lost(pair)
    finally:
        server.running.thaw()
    await until(lambda: works(pair))


async def test_a_triton_that_was_killed_serves_again_after_its_restart_and_nobody_else_is_restarted(
    server: Server, pair: tuple[RankingService, RetrievalService]
) -> None:
    server.running.kill()
    try:
        await lost(pair)
    finally:
        server.restart()
    await until(lambda: works(pair))


async def test_a_model_whose_instance_died_is_loaded_again(
    server: Server, pair: tuple[RankingService, RetrievalService]
) -> None:
    await until(lambda: works(pair))
    for stub in psutil.Process(server.running.process.pid).children(recursive=True):
        stub.kill()
    await lost(pair)
    await until(lambda: works(pair))


async def test_new_items_wait_for_triton_and_are_absorbed_when_it_is_back(
    server: Server, bundles: dict[str, Bundle]
) -> None:
    items = catalogue()
    with closing(server.host(timeout_s=20.0, every_s=0.2)) as host:
        service = ranking_build.build(ranking_build.Settings(), items)
        with closing(service):
            service.use(ranking_build.load_bundle(service, bundles["one"], host))
            shorten(host)
            server.running.kill()
            service.changed(items.upsert(make_items(130)[120:]))
            await asyncio.sleep(0.5)
            server.restart()
            async with asyncio.timeout(60):
                await service.settled()
            assert service._model is not None
            assert service._model.items.size == 130


async def test_what_nobody_holds_is_unloaded_and_what_anybody_leases_is_not(server: Server, tmp_path: Path) -> None:
    mine, ours = small_bundle(tmp_path / "mine", "mixing", seed=1), small_bundle(tmp_path / "ours", "mixing", seed=2)
    foreign = server.repository / "foreign"
    with closing(TritonServer(server.address)) as watching, closing(server.host(keep_s=KEEP_S, every_s=0.2)) as host:
        models = [*host.load(mine, ["mixing"]).values(), *host.load(ours, ["mixing"]).values()]
        other = ModelRepository(server.repository)
        names = [name_of(bundle, "mixing") for bundle in (mine, ours)]
        foreign.mkdir()  # a model that was never leased
        await asyncio.sleep(1.5 * KEEP_S)
        assert all(watching.has(name) for name in names)
        models.clear()
        end = time.monotonic() + 1.5 * KEEP_S
        while time.monotonic() < end:
            other.renew(names[1])
            await asyncio.sleep(0.1)
        assert watching.has(names[1])
        await until(lambda: not watching.has(names[0]))
        assert not (server.repository / names[0]).exists()
        assert (server.repository / names[1]).exists()
        assert foreign.exists()
        await until(lambda: not watching.has(names[1]))


def test_a_host_that_ends_leaves_its_models_for_the_next(server: Server, tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "left", "mixing", seed=3)
    with closing(server.host()) as first:
        first.load(bundle, ["mixing"])
    before = instances(server)
    with closing(server.host()) as second:
        second.load(bundle, ["mixing"])
    assert not instances(server) - before, "an instance was started again"


def instances(server: Server) -> set[psutil.Process]:
    """Every model's, each a process of its own."""
    return {
        one
        for one in psutil.Process(server.running.process.pid).children(recursive=True)
        if one.status() != psutil.STATUS_ZOMBIE
    }


def test_without_triton_a_bundle_is_not_refused_but_waits(tmp_path: Path) -> None:
    host = TritonHost(TritonServer("127.0.0.1:9"), ModelRepository(tmp_path / "models"))
    with closing(host), pytest.raises(Unavailable):
        host.load(small_bundle(tmp_path / "bundle", "mixing"), ["mixing"])


@pytest.mark.slow
def test_the_platform_answers_through_triton_without_it_and_through_it_again(
    served_home: Path, server: Server, tmp_path: Path
) -> None:
    home = copy_of(served_home, tmp_path / "home")
    settings = registry_of(served_home) | {
        "WINNOW_BUNDLE_EVERY_S": "0.5",
        "WINNOW_TRITON_ADDRESS": server.address,
        "WINNOW_TRITON_REPOSITORY": str(server.repository),
        **PATIENT,
    }
    user = next(person.user_id for person in load_dataset(served_home).people if person.user_id)
    body = {"user_id": user, "n": 10, "context": {"at": "2026-01-31T12:00:00Z", "surface": "home"}}
    with (
        platform_running(home, "one_process", tmp_path / "logs", settings) as platform,
        httpx.Client(base_url=f"http://127.0.0.1:{platform.rest}", timeout=30) as http,
    ):

        def ask() -> dict[str, Any]:
            answer = http.post("/v1/recommendations", json=body)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["items"]) == 10
            found: dict[str, Any] = answer.json()
            return found

        before = asked_until(ask, [])
        server.running.kill()
        try:
            without = ask()
            assert sorted(without["skipped"]) == ["ranking", "retrieval.tower"]
            assert "ranking" not in without["bundles"]
        finally:
            server.restart()
        after = asked_until(ask, [])
        assert [line["item_id"] for line in after["items"]] == [line["item_id"] for line in before["items"]]


def asked_until(ask: Callable[[], dict[str, Any]], skipped: list[str]) -> dict[str, Any]:
    end = time.monotonic() + 40
    while (answer := ask())["skipped"] != skipped:
        assert time.monotonic() < end, answer["skipped"]
        time.sleep(0.2)
    return answer
