"""Retrieval trained on a world whose right answer is visible: everybody acts on items of one colour."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.retrieval.bundle import load as load_for_serving
from services.retrieval.bundle import no_history
from tests.training.test_loop import steps_done
from tests.training.worlds import COLOURS, colour_world
from training.dataset import Dataset
from training.loop import LoopSettings
from training.models.two_tower import TowerSizes
from training.refresh import made_again, refresh
from training.retrieval_bundle import Trained
from training.split import Split, split
from training.train_retrieval import Probe, RetrievalSettings, fit_towers, gain, train
from training.vector_index import described, write_index
from winnow.artifacts import Bundle, file_hashes, open_bundle
from winnow.errors import InvalidArgument
from winnow.features import ItemView, UserView
from winnow.inference import InProcess
from winnow.types import HISTORY, Context, Floats, Item, Person, UserState

ROOT = Path(__file__).parents[2]
SETTINGS = RetrievalSettings(
    LoopSettings(epochs=12, lr=2e-3, warmup_steps=20), TowerSizes(dropout=0.1), windows=4, neighbours=10, threads=1
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def dataset(home: Path) -> Dataset:
    return colour_world(home, acts=20)


@pytest.fixture(scope="module")
def parts(dataset: Dataset) -> Split:
    return split(dataset, "evaluate")


@pytest.fixture(scope="module")
def bundle(dataset: Dataset, parts: Split, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = train(dataset, parts, SETTINGS, tmp_path_factory.mktemp("bundles"))
    assert made is not None
    return made


@pytest.fixture(scope="module")
def trained(dataset: Dataset, parts: Split) -> Trained:
    return fit_towers(dataset, parts, SETTINGS, None)


def test_two_threads_train_the_same_towers_twice(dataset: Dataset, parts: Split) -> None:
    """Sums of several threads come in any order unless they are told otherwise."""
    settings, before = replace(SETTINGS, loop=replace(SETTINGS.loop, epochs=1), windows=32), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one, two = (fit_towers(dataset, parts, settings, None).model.state_dict() for _ in range(2))
    finally:
        torch.set_num_threads(before)
    for name, weights in one.items():
        assert torch.equal(weights, two[name]), name


class Serving:
    """The towers of a bundle, as a service asks them."""

    def __init__(self, bundle: Bundle) -> None:
        self.loaded = load_for_serving(bundle, InProcess())
        self.colour = np.array([int(item_id[1:]) % 3 for item_id in self.loaded.item_ids])

    def item(self, item: Item) -> Floats:
        ids, numbers = self.loaded.item_schema.encode([ItemView(item)])
        return self.loaded.item_tower.run({"ids": ids, "numbers": numbers})["vector"][0]

    def person(self, person: Person, vectors: Floats) -> Floats:
        """Somebody who rated the items of these vectors, just as well as everybody."""
        ids, _ = self.loaded.user_schema.encode([UserView(UserState(person), Context(), lambda _: None)])
        inputs = no_history(1, self.loaded.dim)
        if len(vectors):
            inputs["history"][0, HISTORY - len(vectors) :] = vectors
            inputs["history_types"][0, HISTORY - len(vectors) :] = self.loaded.type_codes["rating"]
        return self.loaded.user_tower.run({"ids": ids, **inputs})["vector"][0]

    def share(self, vector: Floats, colour: int, k: int = 10) -> float:
        """How many of the nearest k items have this colour."""
        nearest = np.argsort(-(self.loaded.vectors @ vector))[:k]
        return float((self.colour[nearest] == colour).mean())


@pytest.fixture(scope="module")
def serving(bundle: Bundle) -> Serving:
    return Serving(bundle)


def test_the_towers_find_the_next_act_where_popularity_does_not(
    dataset: Dataset, parts: Split, trained: Trained
) -> None:
    probe = Probe.of(dataset, parts, trained.every)
    counts = np.bincount(trained.known.items(), minlength=len(dataset.items))
    popular = []
    for position, person in zip(probe.positions, probe.people, strict=True):
        unseen = counts.copy()
        unseen[trained.every.items(slice(trained.every.starts[person], position))] = -1
        popular.append(int((unseen > unseen[trained.every.items(position)]).sum()))
    places = probe.places(trained.model)
    assert (places < 12).mean() > 0.9  # 11 or 12 of 30 are left of the own colour, and 60 of the others
    assert gain(places) > 1.5 * gain(np.asarray(popular))


def test_the_loss_fell_and_the_metrics_are_in_the_manifest(bundle: Bundle, trained: Trained) -> None:
    assert trained.history.losses[-1] < trained.history.losses[0]
    assert bundle.metrics["recall_at_100"] == 1.0
    assert 0 < bundle.metrics["ndcg_at_10"] <= bundle.metrics["recall_at_10"] <= 1


def test_serving_takes_the_bundle_and_its_vectors_are_the_towers(bundle: Bundle, serving: Serving) -> None:
    loaded = serving.loaded
    assert np.allclose(np.linalg.norm(loaded.vectors, axis=1), 1.0, atol=1e-5)
    known = Item("i7", title="Thing 7", categories=("green",))
    assert np.allclose(serving.item(known), loaded.vectors[loaded.item_ids.index("i7")], atol=1e-5)
    assert bundle.facts["index"] == {
        "kind": "flat",
        "asked": "auto",
        "recall_at_100": 1.0,
        "bytes_per_item": bundle.facts["index"]["bytes_per_item"],
    }
    assert described(bundle)["ms"] > 0


@pytest.mark.parametrize("colour", range(3))
def test_a_new_item_lands_near_its_category_by_its_attributes_alone(serving: Serving, colour: int) -> None:
    fresh = Item("never-seen", title="Something else", categories=(COLOURS[colour],))
    assert serving.share(serving.item(fresh), colour) >= 0.8


@pytest.mark.parametrize("colour", range(3))
def test_a_stranger_is_known_by_what_they_do_also_with_new_items(serving: Serving, colour: int) -> None:
    stranger = Person(user_id="never-seen")
    old = serving.loaded.vectors[serving.colour == colour][:3]
    new = np.stack([serving.item(Item(f"new{n}", categories=(COLOURS[colour],))) for n in range(3)])
    for history in (old, new):
        assert serving.share(serving.person(stranger, history), colour) >= 0.8


def test_a_stranger_without_a_history_gets_a_finite_answer(serving: Serving) -> None:
    for person in (Person(user_id="never-seen"), Person(session_id="anonymous")):
        vector = serving.person(person, np.empty((0, 128), np.float32))
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_what_follows_and_what_goes_together_has_the_same_colour(serving: Serving) -> None:
    for table in (serving.loaded.follows, serving.loaded.together):
        rows, found = np.nonzero(table.places >= 0)
        assert len(rows) > 500
        assert (serving.colour[table.places[rows, found]] == serving.colour[rows]).all()


def test_the_same_data_and_seed_give_the_same_bundle(
    dataset: Dataset, parts: Split, bundle: Bundle, tmp_path: Path
) -> None:
    again = train(dataset, parts, SETTINGS, tmp_path)
    assert again is not None
    assert again.id == bundle.id
    assert again.path == tmp_path / bundle.id


def test_nothing_after_the_training_part_is_in_the_bundle(
    dataset: Dataset, parts: Split, trained: Trained, bundle: Bundle
) -> None:
    assert (parts.train[trained.known.act_rows]).all()
    assert bundle.facts["stats_at"] == dataset.acts.at[parts.train].max()
    other = fit_towers(
        dataset, replace(parts, train=parts.train & (np.arange(len(parts.train)) % 2 == 0)), SETTINGS, None
    )
    assert len(other.known) < len(trained.known)


def test_a_refresh_rewound_to_the_training_part_is_what_training_left(
    dataset: Dataset, parts: Split, bundle: Bundle, tmp_path: Path
) -> None:
    """Not a byte of a file differs, so a ranker that learns over it learns over no answer."""
    fresh = refresh(bundle, dataset, tmp_path, now=float(dataset.acts.at.max()))
    assert fresh is not None
    assert file_hashes(fresh.bundle)["follows_rows.npy"] != file_hashes(bundle)["follows_rows.npy"]
    back = made_again(fresh.bundle, dataset, parts.train, tmp_path)
    assert file_hashes(back) == file_hashes(bundle)
    assert back.facts["stats_at"] == bundle.facts["stats_at"]


KILLED = """
import sys
from pathlib import Path
from tests.training.test_retrieval_training import kept_in, SETTINGS
from training.dataset import load
from training.split import split
from training.train_retrieval import train

dataset = load(Path(sys.argv[1]))
train(dataset, split(dataset, "evaluate"), kept_in(Path(sys.argv[2])), Path(sys.argv[3]))
"""


def kept_in(checkpoint: Path) -> RetrievalSettings:
    """The settings of this module with a checkpoint after every step."""
    return replace(SETTINGS, loop=replace(SETTINGS.loop, checkpoint=checkpoint, checkpoint_every_s=0.0))


def test_a_training_that_is_killed_goes_on_and_leaves_the_same_bundle(
    home: Path, dataset: Dataset, parts: Split, bundle: Bundle, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "retrieval.ckpt"
    script = [sys.executable, "-c", KILLED, str(home), str(checkpoint), str(tmp_path)]
    process = subprocess.Popen(script, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 120
    while steps_done(checkpoint) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait(10)
    assert steps_done(checkpoint) >= 20
    assert not list(tmp_path.glob("*/manifest.json")), "it was killed too late"
    resumed = train(dataset, parts, kept_in(checkpoint), tmp_path)
    assert resumed is not None
    assert resumed.id == bundle.id


@pytest.mark.slow
def test_two_processes_train_one_bundle(home: Path, dataset: Dataset) -> None:
    command = "-m torch.distributed.run --standalone --nproc-per-node 2 -m training.train_retrieval --preset quick"
    done = subprocess.run(
        [sys.executable, *command.split(), "--home", str(home), "--purpose", "evaluate"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (made,) = (home / "bundles").iterdir()
    assert open_bundle(made, "retrieval").data["snapshot"] == dataset.snapshot


def test_vectors_in_clusters_are_searched_in_few_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.vector_index.CELLS_FROM", 10_000)
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((100, 128), np.float32))
    vectors = unit(np.repeat(centres, 100, axis=0) + 0.05 * rng.standard_normal((10_000, 128), np.float32))
    found = write_index(tmp_path, vectors, unit(centres + 0.05 * rng.standard_normal((100, 128), np.float32)))
    assert found["kind"] == "ivf"
    assert found["recall_at_100"] >= 0.99
    assert found["bytes_per_item"] > 512


@pytest.mark.parametrize(("kind", "most"), [("ivf_pq", 300), ("hnsw", 900)])
def test_a_kind_that_is_asked_for_is_built_and_looks_as_far_as_it_must(tmp_path: Path, kind: str, most: int) -> None:
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((12, 128), np.float32))
    vectors = unit(np.repeat(centres, 100, axis=0) + 0.05 * rng.standard_normal((1_200, 128), np.float32))
    people = unit(centres + 0.05 * rng.standard_normal((12, 128), np.float32))
    found = write_index(tmp_path, vectors, people, asked=kind)
    assert (found["kind"], found["asked"]) == (kind, kind)
    assert found["recall_at_100"] >= 0.98
    assert found["bytes_per_item"] < most
    assert write_index(tmp_path, vectors, people, asked=kind) == found
    with pytest.raises(InvalidArgument, match="no index 'faster'"):
        write_index(tmp_path, vectors, people, asked="faster")


def test_vectors_without_clusters_are_compared_in_half_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.vector_index.CELLS_FROM", 10_000)
    monkeypatch.setattr("training.vector_index.MOST_PROBES", 32)
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((10_000, 128), np.float32))
    found = write_index(tmp_path, vectors, unit(rng.standard_normal((50, 128), np.float32)))
    assert found["kind"] == "fp16"
    assert found["recall_at_100"] >= 0.98
    assert 256 <= found["bytes_per_item"] < 300


def unit(vectors: Floats) -> Floats:
    rows: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows
