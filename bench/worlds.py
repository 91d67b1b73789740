"""What the benchmark runs on: a home per data set, with real models that were trained briefly.

Cost depends on the models' shapes, the size of the vocabularies and the length of histories, all of which are the real
ones. It depends on the weights only where vectors are searched: towers that learnt nothing point people away from all
items, where no index finds neighbours. So the towers see every act once, the ranker a few, and no figure on quality
may come from these homes. A home is prepared once and kept in build/bench/.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.artifacts import Bundle, open_bundle

if TYPE_CHECKING:
    from training.dataset import Dataset
    from training.impressions import Impressions
    from training.split import Split

WORLDS = {"100k": "generated:100000", "ml-1m": "ml-1m", "shop": "generated:2000"}
MEASURED = ("100k", "ml-1m")  # by the benchmark; the shop is for drills
FORMAT = 3  # raised when homes that were prepared before no longer do, or hold models of another shape
PEOPLE = 2_000  # known people that are asked for, spread over all of them
RANK_MOMENTS, CALIBRATE_MOMENTS = 4_000, 500

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class World:
    """A prepared home: `people` are user ids with a history; the bundles are the champions of the home's registry."""

    name: str
    home: Path
    people: tuple[str, ...]
    items: int
    retrieval: Path
    ranking: Path


def prepare(name: str, root: Path, say: Say) -> World:
    """The world `name` below `root`, made unless it is there. NotFound says how to get a data set that is absent."""
    home = root / name
    about = home / "world.json"
    if about.exists() and (found := json.loads(about.read_text(encoding="utf-8")))["format"] == FORMAT:
        return opened(name, home, found)
    started = time.monotonic()
    say(f"{name}: preparing {WORLDS[name]}, once; models are trained briefly, only their cost matters")
    found = made(name, home, say)
    about.write_text(json.dumps(found), encoding="utf-8")
    say(f"{name}: prepared in {time.monotonic() - started:.0f} s")
    return opened(name, home, found)


def opened(name: str, home: Path, found: dict[str, object]) -> World:
    bundles = home / "bundles"
    people = found["people"]
    assert isinstance(people, list)
    return World(
        name,
        home,
        tuple(people),
        int(str(found["items"])),
        bundles / str(found["retrieval"]),
        bundles / str(found["ranking"]),
    )


def made(name: str, home: Path, say: Say) -> dict[str, object]:
    """Ingest, train both models, promote them."""
    from training.dataset import load
    from training.ingest import ingest
    from training.split import split
    from winnow.registry import MlflowRegistry

    summary = ingest(WORLDS[name], home, replace=True)
    say(f"{name}: {summary.items:,} items, {summary.events:,} events")
    dataset = load(home)
    parts = split(dataset, "serve")
    retrieval = train_retrieval(dataset, parts, home)
    say(f"{name}: retrieval trained, index {retrieval.facts['index']}")
    ranking = train_ranking(impressions(dataset, parts, retrieval, home), home)
    say(f"{name}: ranker trained")
    registry = MlflowRegistry(f"sqlite:///{home.absolute()}/mlflow.db", home / "state" / "bundles")
    for bundle in (retrieval, ranking):
        registry.promote(registry.register(bundle, {"preset": "benchmark"}))
    return {
        "format": FORMAT,
        "items": len(dataset.items),
        "people": people_of(dataset),
        "retrieval": retrieval.path.name,
        "ranking": ranking.path.name,
    }


def train_retrieval(dataset: Dataset, parts: Split, home: Path) -> Bundle:
    """Towers after one epoch."""
    from training.retrieval_bundle import write_bundle
    from training.train_retrieval import fit_towers, preset

    settings = preset("full")
    trained = fit_towers(dataset, parts, replace(settings, loop=replace(settings.loop, epochs=1)), None)
    return write_bundle(dataset, trained, home / "bundles", neighbours=settings.neighbours, metrics={}, seed=0)


def impressions(dataset: Dataset, parts: Split, retrieval: Bundle, home: Path) -> Impressions:
    """What this retrieval would have shown; it serves in this process meanwhile."""
    from services.retrieval.build import build, load_bundle
    from services.retrieval.settings import Settings
    from training.impressions import build as build_lists
    from training.lists import ImpressionSettings
    from winnow.catalogue import Catalogue

    catalogue = Catalogue()
    catalogue.upsert(dataset.items)
    settings = ImpressionSettings(rank_moments=RANK_MOMENTS, calibrate_moments=CALIBRATE_MOMENTS)
    with closing(build(Settings(), catalogue)) as service:
        service.use(load_bundle(service, retrieval))
        return asyncio.run(build_lists(dataset, parts, service, retrieval, home / "training", settings))


def train_ranking(lists: Impressions, home: Path) -> Bundle:
    from training.train_ranking import preset, train

    settings = preset("quick")
    loop = replace(settings.loop, epochs=1)
    bundle = train(lists, replace(settings, loop=loop), home / "bundles")
    assert bundle is not None
    return bundle


def people_of(dataset: Dataset) -> list[str]:
    """User ids with a history, spread evenly over the log, so that heavy and light ones are among them."""
    known = [
        person.user_id for row, person in enumerate(dataset.people) if len(dataset.acts_of(row)) and person.user_id
    ]
    every = max(1, len(known) // PEOPLE)
    return known[::every][:PEOPLE]


def bundles_of(world: World) -> tuple[Bundle, Bundle]:
    """Retrieval and ranking, opened and hash-checked."""
    return open_bundle(world.retrieval, "retrieval"), open_bundle(world.ranking, "ranking")
