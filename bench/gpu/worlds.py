"""What is trained on: a generated home, and lists of candidates that nobody ever saw.

The sizes of vocabularies, histories and lists are those of a real shop, since a step's time depends on nothing else; what is
in the lists is drawn by chance. No figure on quality may come from here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.kernels import encoded
from bench.scale.steps import loaded
from bench.scale.worlds import ITEMS_PER_PERSON, PER_ITEM, name_of, written
from training.data.generated import World
from training.dataset import Dataset
from training.impressions import Impressions, sampled
from training.ingest import ingest
from training.lists import ImpressionSettings, Lists
from training.moments import moments
from training.ranker_schemas import RankerSchemas, fit_schemas
from training.split import Split
from winnow.candidate_features import candidate_names
from winnow.features import ItemStats, ItemView

SOURCES = ("tower", "sequence", "item_to_item", "trending", "fresh", "text", "again")
FITTED_ON = 1_000  # moments that scales are taken from
ACTED_ON = 0.3  # of the first rows of the lists


def prepared(root: Path, items: int) -> Path:
    """The folder of a world of so many items, made unless it is there."""
    world = World(items, items // ITEMS_PER_PERSON, items * PER_ITEM)
    folder = root / name_of(world)
    if not (folder / "home" / "dataset.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        written(world, folder)
        ingest(str(folder / "source"), folder / "home")
    return folder


def ranker_schemas(dataset: Dataset, parts: Split) -> RankerSchemas:
    """As the lists of a trained retrieval would give them: the same columns, the same vocabularies."""
    counts = np.bincount(dataset.acts.item, minlength=len(dataset.items)).astype(np.float64)
    views = [
        ItemView(item, ItemStats(count, count / 2, 1.0 + count % 4))
        for item, count in zip(dataset.items, counts.tolist(), strict=True)
    ]
    rank = sampled(moments(dataset, parts).rank, ImpressionSettings().rank_moments, seed=0)
    return fit_schemas(dataset, views, rank, FITTED_ON)


def impressions(folder: Path, lists: int) -> Impressions:
    """So many lists as long as those that the ranker is trained on."""
    dataset, parts = loaded(folder)
    schemas, rng = ranker_schemas(dataset, parts), np.random.default_rng(0)
    items = encoded(schemas.item, len(dataset.items), rng)
    made = made_lists(schemas, lists, len(dataset.items), rng)
    return Impressions(folder, made, made, schemas, items["ids"], items["numbers"], {"key": "made up"})


def made_lists(schemas: RankerSchemas, lists: int, items: int, rng: np.random.Generator) -> Lists:
    """Each of the acted-on row and the sampled ones."""
    long = ImpressionSettings().negatives + 1
    rows = lists * long
    people = encoded(schemas.user, lists, rng)
    first = np.arange(rows) % long == 0
    return Lists(
        user_ids=people["ids"],
        user_numbers=people["numbers"],
        starts=np.arange(lists + 1) * long,
        item=rng.integers(0, items, rows),
        candidates=rng.random((rows, len(candidate_names(SOURCES))), np.float32),
        click=first,
        convert=first & (rng.random(rows) < ACTED_ON),
        value=rng.random(rows, np.float32) * first,
        weight=np.ones(rows, np.float32),
    )
