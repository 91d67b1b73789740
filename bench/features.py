"""What features cost: one person and 500 items from a real Redis, the same items in process, and how soon a write shows.

A shop of its own is served by a feature service in its own process over a Redis of its own; this process is the caller,
and holds the catalogue and the item states as a ranking service does. One caller at a time, stopwatch times. Feast's SDK
is measured where it is installed: it reads the very rows that the direct reader reads.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from parts.program import HOST, Program, free_ports, running
from parts.redis import redis
from services.ranking.build import build, load_bundle
from services.ranking.service import Model, RankingService
from services.ranking.settings import Settings
from winnow import segments
from winnow.artifacts import Bundle
from winnow.canonical import ITEMS, items_of
from winnow.catalogue import Catalogue, Rows, follow
from winnow.errors import Unavailable, WinnowError
from winnow.feast_layout import Layout
from winnow.feature_views import ITEM_POPULARITY, ITEM_STATIC, SERVICES, Cell, StoredView
from winnow.features import ItemStats, ItemView
from winnow.home import feature_file, items_folder
from winnow.hot_store import HotStore
from winnow.item_changes import follow_changes
from winnow.redis import Hashes, connect
from winnow.serving.connect import connect as dial
from winnow.serving.memory import tune
from winnow.types import Event, EventType, Item, Person
from winnow.wire.feature import FeatureClient

ITEMS_KNOWN, PEOPLE, EVENTS = 10_000, 500, 60_000
ROWS = 500  # items of one request
USER_READS, ITEM_READS, COLUMN_READS, SDK_READS, WRITES = 5_000, 100, 1_000, 20, 300
WARM = 20
TIMEOUT_S = 5.0
READY_S = 60.0
PATIENCE_MS = 5_000
REPOSITORY = Path(__file__).parents[1] / "feature_repo"

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shop:
    """A home that is served, and what was ingested into it."""

    home: Path
    redis_url: str
    feature_address: str
    items: tuple[Item, ...]
    people: tuple[str, ...]
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def some_items(self) -> list[str]:
        return [self.items[row].item_id for row in self.chance.choice(len(self.items), ROWS, replace=False)]


def features_here(ranking: Bundle) -> dict[str, float]:
    """Every figure by its dotted name; FailedPrecondition where Redis is not installed."""
    tune()  # as a serving process does
    with shop_served() as shop:
        write_items(shop)
        found = users(shop) | items(shop, ranking) | asyncio.run(freshness(shop, ranking))
        return found | (by_sdk(shop) if importlib.util.find_spec("feast") else {})


@contextmanager
def shop_served() -> Iterator[Shop]:
    from training.data.generated import World, generate
    from training.ingest import ingest_source

    redis_port, feature_port = free_ports(2)
    with TemporaryDirectory() as folder:
        home, url = Path(folder) / "home", f"redis://{HOST}:{redis_port}/0"
        ingest_source(generate(World(items=ITEMS_KNOWN, people=PEOPLE, events=EVENTS, seed=11)), home)
        address = f"{HOST}:{feature_port}"
        env = {"WINNOW_HOME": str(home), "WINNOW_REDIS_URL": url, "WINNOW_FEATURE_ADDRESS": address}
        command = (sys.executable, "-m", "services.feature")
        root = {"PYTHONPATH": str(REPOSITORY.parent)}
        service = Program("feature", command, Path(folder), lambda: current(url, EVENTS), env | root, ready_s=READY_S)
        with running(redis(Path(folder) / "redis", redis_port)), running(service):
            known = tuple(items_of(segments.whole(items_folder(home), ITEMS)))
            yield Shop(home, url, address, known, tuple(f"u{n}" for n in range(PEOPLE)))


def current(url: str, position: int) -> str:
    """Whether everybody's hot state is in Redis (a `parts.program.Probe`)."""
    store = HotStore(url, 1.0)
    try:
        mark = store.mark()
        return "" if mark is not None and mark.position >= position else f"hot states are at {mark}"
    except WinnowError as away:
        return away.detail
    finally:
        store.close()


# ---------------------------------------------------------------------------------------------- reading


def users(shop: Shop) -> dict[str, float]:
    """One person's features by the direct reader, and their hot state."""
    layout, hashes = Layout(SERVICES["user"]), Hashes(connect(shop.redis_url, TIMEOUT_S))
    store, people = HotStore(shop.redis_url, TIMEOUT_S), shop.people
    if layout.read(people[:1], hashes, time.time())[0][-1] is None:
        raise Unavailable("the features of people are not in Redis")
    read = stopwatch(lambda k: layout.read([people[k % PEOPLE]], hashes, time.time()), USER_READS)
    hot = stopwatch(lambda k: store.read(Person(people[k % PEOPLE])), USER_READS // 5)
    return {
        **figures("features.user", read),
        "features.user.ops_per_s": 1000 / float(read.mean()),
        **figures("features.hot_state", hot),
    }


def items(shop: Shop, ranking: Bundle) -> dict[str, float]:
    """500 items by the direct reader, and what the ranker reads of them in its own process."""
    layout, hashes = Layout(SERVICES["item"]), Hashes(connect(shop.redis_url, TIMEOUT_S))
    asked = [shop.some_items() for _ in range(WARM)]
    direct = stopwatch(lambda k: layout.columns(layout.read(asked[k % WARM], hashes, time.time())), ITEM_READS)
    catalogue = Catalogue()
    catalogue.upsert(shop.items)
    service = build(Settings(home=shop.home), catalogue)
    model = load_bundle(service, ranking)
    columns = stopwatch(lambda k: gather(service, model, catalogue, asked[k % WARM]), COLUMN_READS)
    service.close()
    return figures(f"features.items.{ROWS}.direct", direct) | figures(f"features.items.{ROWS}.columns", columns)


def gather(service: RankingService, model: Model, catalogue: Catalogue, item_ids: Sequence[str]) -> object:
    """What a request does to have its items: ids to rows, rows to places, the states there."""
    return service._gathered(model.items, model.items.places(catalogue.rows(item_ids)))


def write_items(shop: Shop) -> None:
    """Every item's rows, as `feast materialize` would leave them."""
    client: Any = connect(shop.redis_url, TIMEOUT_S)
    layout, pipe = Layout(SERVICES["item"]), client.pipeline(transaction=False)
    for item in shop.items:
        for view in layout.views:
            at_ns = round(item.created_at.timestamp()) * 10**9
            pipe.hset(layout.key(item.item_id), mapping=layout.row(view, cells_of(item, view, shop.chance), at_ns))
    pipe.execute()
    client.close()


def cells_of(item: Item, view: StoredView, chance: np.random.Generator) -> list[Cell]:
    return view.row(ItemView(item, ItemStats(float(chance.integers(1, 500)), float(chance.random()), 3.5)))


def by_sdk(shop: Shop) -> dict[str, float]:
    """The same rows by `FeatureStore.get_online_features`."""
    store, names = declared(shop)
    asked = [{"item_id": item_id} for item_id in shop.some_items()]
    read = stopwatch(lambda _: store.get_online_features(names, asked).to_dict(), SDK_READS, warm=3)
    one = stopwatch(lambda k: store.get_online_features(names, asked[k : k + 1]).to_dict(), SDK_READS * 10, warm=3)
    return figures(f"features.items.{ROWS}.sdk", read) | figures("features.items.1.sdk", one)


def declared(shop: Shop) -> tuple[Any, list[str]]:
    """Feast's store over the shop's Redis, with the items' views applied, and the names of their features. The process's
    environment says where it is from now on, also to what this process starts."""
    from training.offline import write_view

    for view in (ITEM_STATIC, ITEM_POPULARITY):
        rows = ((item.item_id, 0.0, 0.0, cells_of(item, view, shop.chance)) for item in shop.items[:10])
        write_view(feature_file(shop.home, view.name), view, rows)
    os.environ |= {
        "WINNOW_HOME": str(shop.home),
        "WINNOW_FEAST_REGISTRY": f"sqlite:///{shop.home}/feast.db",
        "WINNOW_FEAST_REDIS": f"{shop.redis_url.removeprefix('redis://').removesuffix('/0')},db=0",
    }
    sys.path.insert(0, str(REPOSITORY))
    from feast import FeatureStore

    declarations = importlib.import_module("declarations")
    store = FeatureStore(str(REPOSITORY))
    of_items = [declarations.views[view.name] for view in SERVICES["item"]]
    store.apply([declarations.entities["item"], *of_items])
    return store, [f"{view.name}:{name}" for view in SERVICES["item"] for name in view.features]


# ---------------------------------------------------------------------------------------------- freshness


async def freshness(shop: Shop, ranking: Bundle) -> dict[str, float]:
    """From the beginning of a write until it is visible: an event in its person's hot state in Redis, an item's new
    price in the states that this process ranks by."""
    features = FeatureClient(dial(shop.feature_address), timeout_s=TIMEOUT_S)
    catalogue, came = Catalogue(), asyncio.Event()
    service = build(Settings(home=shop.home), catalogue)

    def changed(rows: Rows) -> None:
        service.changed(rows)
        came.set()

    beside = [
        asyncio.create_task(follow(catalogue, features, changed)),
        asyncio.create_task(follow_changes(shop.redis_url, catalogue.told)),
    ]
    try:
        await catalogue.complete.wait()
        service.use(await asyncio.to_thread(load_bundle, service, ranking))

        async def item(n: int) -> None:
            came.clear()
            await features.put_items([replace(shop.items[n], price=float(n))])
            await came.wait()
            await service.settled()

        store = HotStore(shop.redis_url, TIMEOUT_S)
        of_items = await each(item)
        of_people = await each(lambda n: event_visible(features, store, shop, n))
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        service.close()
    return figures("features.freshness.item", of_items) | figures("features.freshness.user", of_people)


async def each(write: Callable[[int], Awaitable[None]]) -> Times:
    took = []
    for n in range(WARM + WRITES):
        began = time.perf_counter()
        await write(n)
        took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.005)
    return np.array(took[WARM:])


async def event_visible(features: FeatureClient, store: HotStore, shop: Shop, n: int) -> None:
    person, item_id = Person(f"new{n % 50}"), shop.items[n].item_id
    await features.record([Event(f"bench-{n}", EventType.CLICK, item_id, datetime.now(UTC), person.user_id)])
    for _ in range(PATIENCE_MS):
        state = store.read(person)
        if state is not None and state.acts.item_ids[-1] == item_id:
            return
        await asyncio.sleep(0.001)
    raise Unavailable("an event does not reach Redis")


# ---------------------------------------------------------------------------------------------- figures


def stopwatch(run: Callable[[int], object], calls: int, *, warm: int = WARM) -> Times:
    """Milliseconds per call, the first ones left out."""
    took = []
    for k in range(warm + calls):
        began = time.perf_counter()
        run(k)
        took.append((time.perf_counter() - began) * 1000)
    return np.array(took[warm:])


def figures(name: str, took: Times) -> dict[str, float]:
    return {f"{name}.p50_ms": float(np.median(took)), f"{name}.p99_ms": float(np.percentile(took, 99))}
