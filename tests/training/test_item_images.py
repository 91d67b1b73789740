"""Images of items, end to end, in a world where they alone tell what goes together: ids, words and categories are noise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from services.all import Platform, Settings
from services.gateway.build import face
from services.retrieval.build import load_bundle
from services.retrieval.bundle import load as load_for_serving
from services.retrieval.bundle import no_history
from tests.homes import BUDGETS
from tests.training.worlds import START_S, dataset_of
from training.dataset import Dataset
from training.item_images import ItemImages, said
from training.loop import LoopSettings
from training.models.two_tower import TowerSizes
from training.refresh import made_again
from training.split import split
from training.train_retrieval import RetrievalSettings, train
from winnow.artifacts import Bundle, file_hashes, open_bundle, seal
from winnow.catalogue import follow
from winnow.encoding import tower_inputs
from winnow.errors import BundleRefused
from winnow.features import UserView
from winnow.image_vectors import packed, unpacked
from winnow.inference import InProcess, OnnxModel, signature_of
from winnow.model_repository import Running, config_of
from winnow.types import HISTORY, Context, Floats, Item, Person, UserState

KINDS, ITEMS, PEOPLE, ACTS, WIDTH = 3, 75, 45, 16, 12
BARE, OTHER = 7, 3  # items without an image, and with one of another model
SIZES = TowerSizes(dim=32, hidden=64, heads=2, dropout=0.1, fusion="gated")
SETTINGS = RetrievalSettings(
    LoopSettings(epochs=12, lr=4e-3, warmup_steps=20), SIZES, windows=6, neighbours=5, threads=1
)
NEW = 30
LOOKS = np.random.default_rng(5).normal(size=(KINDS, WIDTH))
COMMON = 3.0  # all images point much the same way


def image(kind: int, seed: int) -> list[float]:
    """What an image of this kind looks like, as a client sends it."""
    vector = LOOKS[kind] + COMMON + 0.4 * np.random.default_rng((kind, seed)).normal(size=WIDTH)
    return [float(number) for number in vector / np.linalg.norm(vector)]


def new_items(images: bool = True) -> list[Item]:
    """Of every kind as many, which only the image tells."""
    looks = [packed(image(n % KINDS, 1_000 + n)) if images else b"" for n in range(NEW)]
    return [Item(f"new{n}", title=f"word{n % 5}", categories=("new",), image_vector=looks[n]) for n in range(NEW)]


def kind_of(item_id: str) -> int:
    return int(item_id.removeprefix("new").removeprefix("i")) % KINDS


def vector_of(row: int) -> list[float] | None:
    if row < BARE:
        return None
    return [0.5, 0.5] if row < BARE + OTHER else image(row % KINDS, row)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def dataset(home: Path) -> Dataset:
    """Everybody acts on items of one kind."""
    rng = np.random.default_rng(1)
    of_person = np.repeat(np.arange(PEOPLE), ACTS)
    rows = np.concatenate([rng.permutation(ITEMS // KINDS)[:ACTS] for _ in range(PEOPLE)]) * KINDS + of_person % KINDS
    order = rng.permutation(len(rows))
    events = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(rows))],
            "type": "click",
            "user_id": [f"u{n}" for n in of_person[order]],
            "item_id": [f"i{n}" for n in rows[order]],
            "occurred_at": [START_S + 60.0 * n for n in range(len(rows))],
        }
    )
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(ITEMS)],
            "title": [f"word{rng.integers(5)}" for _ in range(ITEMS)],
            "categories": [[("this", "that")[rng.integers(2)]] for _ in range(ITEMS)],
            "image_vector": [vector_of(n) for n in range(ITEMS)],
        }
    )
    return dataset_of(home, events, items, pl.DataFrame({"user_id": ["u0"]}))


@pytest.fixture(scope="module")
def bundle(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = train(dataset, split(dataset, "serve"), SETTINGS, tmp_path_factory.mktemp("bundles"))
    assert made is not None
    return made


class Serving:
    """The towers of a bundle, as a service asks them."""

    def __init__(self, bundle: Bundle) -> None:
        self.loaded = load_for_serving(bundle, InProcess())
        self.kinds = np.array([kind_of(item_id) for item_id in self.loaded.item_ids])

    def items(self, items: Sequence[Item]) -> Floats:
        loaded = self.loaded
        return loaded.item_tower.run(tower_inputs(loaded.item_schema, items, loaded.image_width))["vector"]

    def person(self, kind: int) -> Floats:
        """A stranger who clicked some items of a kind."""
        vectors = self.loaded.vectors[self.kinds == kind][:5]
        ids, _ = self.loaded.user_schema.encode([UserView(UserState(Person("x")), Context(), lambda _: None)])
        inputs = no_history(1, self.loaded.dim)
        inputs["history"][0, HISTORY - len(vectors) :] = vectors
        inputs["history_types"][0, HISTORY - len(vectors) :] = self.loaded.type_codes["click"]
        return self.loaded.user_tower.run({"ids": ids, **inputs})["vector"][0]


@pytest.fixture(scope="module")
def serving(bundle: Bundle) -> Serving:
    return Serving(bundle)


def share_of_own_kind(serving: Serving, items: Sequence[Item]) -> float:
    """Of the ten of these items that a person of each kind is shown, those of the kind."""
    vectors, kinds = serving.items(items), np.array([kind_of(item.item_id) for item in items])
    first = [np.argsort(-(vectors @ serving.person(kind)), kind="stable")[:10] for kind in range(KINDS)]
    return float(np.mean([kinds[rows] == kind for kind, rows in enumerate(first)]))


def test_new_items_are_found_by_their_image_and_by_nothing_else(serving: Serving) -> None:
    assert share_of_own_kind(serving, new_items()) > 0.8
    assert share_of_own_kind(serving, new_items(images=False)) < 0.5


def test_a_known_item_without_an_image_is_still_among_its_kind(serving: Serving) -> None:
    vectors, kinds = serving.loaded.vectors, serving.kinds
    for row in range(BARE):
        nearest = [other for other in np.argsort(-(vectors @ vectors[row])) if other != row][:10]
        assert (kinds[nearest] == kinds[row]).mean() > 0.6


def test_the_length_of_a_vector_says_nothing(serving: Serving) -> None:
    one = new_items()[0]
    longer = replace(one, image_vector=packed(unpacked(one.image_vector) * 30))
    first, second = serving.items([one, longer])
    assert np.allclose(first, second, atol=2e-3)


def test_one_width_is_read_and_what_is_left_out_is_said(dataset: Dataset, bundle: Bundle) -> None:
    assert bundle.facts["image"] == {"width": WIDTH, "items": ITEMS - BARE - OTHER, "other_width": OTHER}
    assert said(bundle.facts["image"], ITEMS).endswith(f"; {OTHER} of another width count as missing")
    images = ItemImages.of(dataset.items)
    assert images is not None
    assert not images.vectors[: BARE + OTHER].any()
    assert ItemImages.of([item.without_image() for item in dataset.items]) is None


def test_the_file_has_an_input_more_and_computes_what_was_trained(dataset: Dataset, bundle: Bundle) -> None:
    """Parity with torch is the export's; here serving's way of making inputs meets the vectors in the bundle."""
    file = bundle.file("item_tower.onnx")
    inputs, outputs = signature_of(file)
    assert [(one.name, one.shape[1]) for one in inputs if one.name == "image"] == [("image", WIDTH)]
    assert f'name: "image" data_type: TYPE_FP32 dims: [ {WIDTH} ]' in config_of("m", inputs, outputs, Running())
    loaded = load_for_serving(bundle, InProcess())
    vectors = OnnxModel(file).run(tower_inputs(loaded.item_schema, dataset.items, WIDTH))["vector"]
    assert np.allclose(vectors, loaded.vectors, atol=1e-5)


def test_a_refresh_finds_new_items_by_their_image_too(dataset: Dataset, bundle: Bundle, tmp_path: Path) -> None:
    changed = replace(dataset.items[1], image_vector=packed(image(1, 1)))
    items = (dataset.items[0], changed, *dataset.items[2:], *new_items())
    grown = replace(dataset, items=items, item_ids=np.array([item.item_id for item in items], object))
    made = made_again(bundle, grown, np.ones(len(dataset.acts), np.bool_), tmp_path)
    assert made.facts["image"] == {"width": WIDTH, "items": ITEMS - BARE - OTHER + 1 + NEW, "other_width": OTHER}
    fresh, before = Serving(made), np.load(bundle.file("item_vectors.npy"))
    assert np.array_equal(fresh.loaded.vectors[2:ITEMS], before[2:])
    assert not np.allclose(fresh.loaded.vectors[1], before[1], atol=0.05)
    assert np.allclose(fresh.loaded.vectors[ITEMS:], fresh.items(new_items()), atol=1e-5)


@pytest.mark.parametrize("facts", [{}, {"image": {"width": WIDTH + 1}}, {"image": {"width": 100_000}}])
def test_a_bundle_that_says_another_width_than_its_tower_reads_is_refused(
    bundle: Bundle, tmp_path: Path, facts: dict[str, Any]
) -> None:
    for name in file_hashes(bundle):
        (tmp_path / name).write_bytes(bundle.file(name).read_bytes())
    rest = {name: fact for name, fact in bundle.facts.items() if name != "image"}
    seal(tmp_path, "retrieval", facts=rest | facts, metrics={}, data=dict(bundle.data))
    with pytest.raises(BundleRefused, match=r"does not take|facts\.image\.width"):
        load_for_serving(open_bundle(tmp_path, "retrieval"), InProcess())


@asynccontextmanager
async def running(home: Path, bundle: Bundle) -> AsyncIterator[httpx.AsyncClient]:
    """All services in this process over a bundle, and REST."""
    settings = Settings(home=home, **BUDGETS)  # type: ignore[arg-type]
    platform = Platform(settings)
    following = asyncio.create_task(follow(platform.catalogue, platform.feature, platform.changed, every_s=0.1))
    await asyncio.wait_for(platform.catalogue.complete.wait(), 10)
    platform.retrieval.use(await asyncio.to_thread(load_bundle, platform.retrieval, bundle))
    transport = httpx.ASGITransport(face(settings, platform.gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://winnow") as client:
        yield client
    following.cancel()
    await platform.feature.close()
    platform.retrieval.close()
    platform.ranking.close()


async def test_an_item_put_with_its_image_is_among_its_kind_in_the_next_answer(
    home: Path, dataset: Dataset, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dataset.items
    for patience in ("BEHIND_S", "OUTDATED_S"):
        monkeypatch.setattr(f"services.retrieval.service.{patience}", 20.0)
    async with running(home, bundle) as http:
        for images, least, most in ((True, 0.8, 1.0), (False, 0.0, 0.6)):
            found = []
            bodies = [
                {"item_id": f"new{n}", "title": "word1", "categories": ["new"]}
                | ({"image_vector": image(n % KINDS, n)} if images else {})
                for n in range(6)
            ]
            written = await http.post("/v1/items:batch", json={"items": bodies})
            assert written.json()["accepted"] == 6, written.text
            assert (await http.post("/v1/items:batch", json={"items": bodies})).json()["duplicates"] == 6
            for body in bodies:
                answer = await http.get(f"/v1/items/{body['item_id']}/similar", params={"n": 8})
                assert "image_vector" not in answer.text
                alike = [line["item_id"] for line in answer.json()["items"] if line["item_id"].startswith("i")]
                found += [kind_of(one) == kind_of(str(body["item_id"])) for one in alike]
            assert least <= np.mean(found) <= most, images
            assert "image_vector" not in (await http.get("/v1/items/new1")).json()
