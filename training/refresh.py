"""A retrieval bundle made again over today's catalogue and log, without training: the towers stay as they are.

A refresh serves: its tables know every act so far. A rewound bundle knows the acts of one part only: what retrieval
would have been before the moments that a ranker learns from or that a gate asks about; tables that know the answers
would teach and measure nothing. An item whose content did not change keeps its vector, bit for bit. Nothing here needs
torch. Which bundle serves, and whether the new one may, is not known here.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.companions import MADE_BY, MOST_ITEMS, companions_again
from training.cooccurrence import Neighbours
from training.dataset import Dataset
from training.item_images import ItemImages
from training.retrieval_tables import (
    PROBES,
    encode_items,
    settle,
    spread,
    user_inputs,
    write_items,
    write_neighbours,
    write_stats,
)
from training.sequences import Sequences, Values, person_facts
from training.split import Mask
from training.vector_index import AUTO, write_index
from winnow.acts import TYPES
from winnow.artifacts import REFRESH_OF, TOGETHER, Bundle, file_hashes, seal
from winnow.encoding import Schema, image_width
from winnow.errors import FailedPrecondition
from winnow.features import Ints, ItemView, item_digest
from winnow.inference import OnnxModel
from winnow.types import HISTORY, Floats

COPIED = ("vocabularies.json", "item_tower.onnx", "user_tower.onnx", "samples.npz")


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A refresh and what is new in it: items that its predecessor did not know, items whose content changed, and acts
    that its tables did not count (negative where they counted some that are not to be known)."""

    bundle: Bundle
    new_items: int
    changed_items: int
    new_acts: int


def refresh(base: Bundle, dataset: Dataset, target: Path, now: float, index: str = "") -> Refreshed | None:
    """The bundle `target/<its id>` over all acts until `now`, seconds since 1970; None where the result would be what
    `base` is. A clock that was wrong must not make everything that happened since look old. `index` is the kind to
    build, empty: what the base was asked for."""
    if base.data.get(REFRESH_OF) and base.data["snapshot"] == dataset.snapshot and index in ("", asked_of(base)):
        return None
    made = made_again(base, dataset, dataset.acts.at <= now, target, index)
    if file_hashes(made) == file_hashes(base):
        return None
    places, same = kept(base, dataset)
    new = int((places < 0).sum())
    return Refreshed(made, new, int((~same).sum()) - new, int(made.data["acts"]) - int(base.data.get("acts", 0)))


def asked_of(base: Bundle) -> str:
    """The kind of index that was asked for when this bundle was made."""
    return str(base.facts["index"].get("asked", AUTO))


def made_again(base: Bundle, dataset: Dataset, known: Mask, target: Path, index: str = "") -> Bundle:
    """The bundle `target/<its id>` with the towers of `base`, all items of the data set, and the tables of the acts
    `known`. The same inputs give the same bundle."""
    check_release(base.facts)
    path = target / ".refresh"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    for name in COPIED:
        shutil.copyfile(base.file(name), path / name)
    every = sequences_of(base, dataset)
    vectors = item_vectors(base, dataset)
    probes = user_inputs(every, spread(len(every), PROBES), vectors)
    people = OnnxModel(path / "user_tower.onnx").run(probes)["vector"]
    searched = write_index(path, vectors, people, asked=index or asked_of(base))
    write_items(path, dataset.items, vectors)
    counted = every.restricted(known)
    write_neighbours(path, dataset, counted, neighbours_of(base), table_of(base, dataset, known))
    stats_at = write_stats(path, dataset, counted)
    facts = {**base.facts, "stats_at": stats_at, "items": len(dataset.items), "index": searched}
    if width := image_width(facts):
        facts["image"] = ItemImages.at(dataset.items, width).facts()
    data = {
        **base.data,
        "name": dataset.name,
        "snapshot": dataset.snapshot,
        "acts": len(counted),
        REFRESH_OF: base.data.get(REFRESH_OF, base.id),
    }
    return settle(seal(path, "retrieval", facts=facts, metrics=base.metrics, data=data), target)


def table_of(base: Bundle, dataset: Dataset, known: Mask) -> Neighbours | None:
    """What goes together where the base does not just count it: made again of the acts `known`, or its model's own."""
    if base.facts.get(TOGETHER, {}).get("made_by") == MADE_BY and len(dataset.items) <= MOST_ITEMS:
        return companions_again(dataset, known, neighbours_of(base))
    return own_table(base, dataset)


def own_table(base: Bundle, dataset: Dataset) -> Neighbours | None:
    """A model's table stays what training made of it, as the towers do: items that came since have no row in it."""
    if TOGETHER not in base.facts:
        return None
    row_of = {item.item_id: row for row, item in enumerate(dataset.items)}
    rows_now = np.asarray([row_of.get(item_id, -1) for item_id in base.json("item_ids.json")], np.int32)
    rows, scores = (np.load(base.file(f"together_{of}.npy"), allow_pickle=False) for of in ("rows", "scores"))
    there = rows_now >= 0
    mapped = np.where(rows >= 0, rows_now[rows], np.int32(-1))
    found = np.full((len(dataset.items), rows.shape[1]), -1, np.int32)
    found[rows_now[there]] = mapped[there]
    worth = np.zeros(found.shape, np.float32)
    worth[rows_now[there]] = np.where(mapped >= 0, scores, np.float32(0))[there]
    return found, worth


def neighbours_of(base: Bundle) -> int:
    """Entries per item of the follows and together tables; a small catalogue fills fewer than were asked for."""
    filled: int = np.load(base.file("follows_rows.npy"), mmap_mode="r").shape[1]
    return int(base.facts.get("neighbours", filled))


def check_release(facts: Mapping[str, Any]) -> None:
    """FailedPrecondition where the towers read acts otherwise than this release writes them."""
    if int(facts["history"]) != HISTORY or list(facts["event_types"]) != [kind.value for kind in TYPES]:
        raise FailedPrecondition("the towers were trained by another release, whose acts differ; run winnow retrain")


def item_vectors(base: Bundle, dataset: Dataset) -> Floats:
    """(N, 128): the vectors that `base` has, and the item tower's of new and changed items."""
    places, same = kept(base, dataset)
    vectors = np.empty((len(dataset.items), int(base.facts["dim"])), np.float32)
    vectors[same] = np.load(base.file("item_vectors.npy"), allow_pickle=False)[places[same]]
    other = np.flatnonzero(~same)
    if len(other):
        schema = Schema.from_json(base.facts["schemas"]["item_tower"], base.vocabularies())
        items, width = [dataset.items[row] for row in other.tolist()], image_width(base.facts)
        images = ItemImages.at(items, width).vectors if width else None
        encoded = schema.encode([ItemView(item) for item in items])
        vectors[other] = encode_items(OnnxModel(base.file("item_tower.onnx"), threads=2), *encoded, images)
    return vectors


def kept(base: Bundle, dataset: Dataset) -> tuple[Ints, Mask]:
    """Per item its place in `base` (-1: none), and whether its content is the one that `base` computed."""
    place = {item_id: n for n, item_id in enumerate(base.json("item_ids.json"))}
    places = np.fromiter((place.get(item.item_id, -1) for item in dataset.items), np.int64, len(dataset.items))
    digests = np.load(base.file("item_digests.npy"), allow_pickle=False)
    now = np.fromiter((item_digest(item) for item in dataset.items), np.uint64, len(dataset.items))
    return places, (places >= 0) & (digests[places] == now)


def sequences_of(base: Bundle, dataset: Dataset) -> Sequences:
    """All acts as the user tower reads them; of people only those are encoded whose vectors probe the index."""
    schema = Schema.from_json(base.facts["schemas"]["user_tower"], base.vocabularies())
    values = Values(float(base.facts["value_mean"]), float(base.facts["value_std"]))
    nobody = person_facts(dataset, schema, np.empty(0, np.int64))
    every = Sequences.of(dataset, schema, nobody, values)
    people = np.unique(every.person_of(spread(len(every), PROBES)))
    return replace(every, facts=person_facts(dataset, schema, people))
