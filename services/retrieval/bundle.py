"""Loads a retrieval bundle (docs/bundles.md) and checks everything that serving relies on, or refuses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from services.retrieval.indexes import VectorIndex
from services.retrieval.indexes.stored import read_index
from services.retrieval.part import Part
from winnow.artifacts import TOGETHER, Bundle
from winnow.catalogue import Mask
from winnow.encoding import Schema, image_width
from winnow.errors import BundleRefused
from winnow.features import Ints
from winnow.image_vectors import MAX_WIDTH
from winnow.inference import Model, ModelHost, check_samples, check_tables
from winnow.types import HISTORY, Floats


@dataclass(frozen=True, eq=False)
class Neighbours:
    """(N, K) what goes with the row's item, by place in the bundle (-1: none), and how strongly."""

    places: npt.NDArray[np.int32]
    scores: Floats


@dataclass(frozen=True, slots=True)
class Reading:
    """How a table is summed over a history: its newest `acts`, each older one counting `decay` times the next."""

    acts: int
    decay: float


@dataclass(frozen=True, eq=False)
class RetrievalBundle:
    """A checked bundle in memory. Columns of length N are in the order of `item_ids`: an item's place in the bundle."""

    id: str
    item_schema: Schema
    user_schema: Schema
    item_tower: Model
    user_tower: Model
    dim: int
    type_codes: Mapping[str, int]  # event type -> what the user tower reads
    value_mean: float
    value_std: float
    item_ids: list[str]
    digests: npt.NDArray[np.uint64]
    vectors: Floats
    index: VectorIndex
    follows: Neighbours
    together: Neighbours
    count: npt.NDArray[np.float64]
    recent: npt.NDArray[np.float64]
    image_width: int = 0  # numbers of an image's vector that the item tower reads; 0: it reads none
    reading: Reading | None = None  # of `together`, where it is a model's own; else serving's settings count


Indexed = Callable[[Path, Floats, Mask | None], VectorIndex]
"""A bundle's index file and vectors → what searches them, or those of them that a mask keeps."""


def load(bundle: Bundle, host: ModelHost, indexed: Indexed = read_index, part: Part | None = None) -> RetrievalBundle:
    """Read the files of an opened bundle, load its models on `host`, its vectors by `indexed`, and check them;
    BundleRefused with the reason. What else host and index raise says nothing about the bundle."""
    try:
        return _load(bundle, host, indexed, part)
    except (KeyError, ValueError, TypeError, OSError, pa.ArrowException) as wrong:
        raise BundleRefused(f"{bundle.path.name}: {type(wrong).__name__}: {wrong}") from wrong


def _load(bundle: Bundle, host: ModelHost, indexed: Indexed, part: Part | None) -> RetrievalBundle:
    facts, vocabularies = bundle.facts, bundle.vocabularies()
    dim, items = int(facts["dim"]), int(facts["items"])
    require(int(facts["history"]) == HISTORY, f"reads a history of {facts['history']}, this release keeps {HISTORY}")
    require(float(facts["value_std"]) > 0, "facts.value_std must be above 0")
    towers = host.load(bundle, ("item_tower", "user_tower"))
    check_samples(bundle.file("samples.npz"), towers)
    item_ids = [str(item_id) for item_id in bundle.json("item_ids.json")]
    require(0 < items == len(item_ids) == len(set(item_ids)), f"item_ids.json needs {items} distinct ids, one at least")
    count, recent = read_stats(bundle.file("stats.parquet"), item_ids)
    vectors = column(bundle, "item_vectors.npy", np.float32, (items, dim))
    require(bool(np.isfinite(vectors).all()), "item_vectors.npy holds numbers that are not finite")
    schemas = {name: Schema.from_json(facts["schemas"][name], vocabularies) for name in towers}
    width = image_width(facts)
    require(0 <= width <= MAX_WIDTH, f"facts.image.width is {width}, an item's vector has {MAX_WIDTH} numbers at most")
    check_tables("item_tower", towers["item_tower"], schemas["item_tower"], some_item(schemas["item_tower"], width))
    check_tables("user_tower", towers["user_tower"], schemas["user_tower"], no_history(1, dim))
    return RetrievalBundle(
        id=bundle.id,
        item_schema=schemas["item_tower"],
        user_schema=schemas["user_tower"],
        item_tower=towers["item_tower"],
        user_tower=towers["user_tower"],
        dim=dim,
        type_codes={str(name): place + 1 for place, name in enumerate(facts["event_types"])},
        value_mean=float(facts["value_mean"]),
        value_std=float(facts["value_std"]),
        item_ids=item_ids,
        digests=column(bundle, "item_digests.npy", np.uint64, (items,)),
        vectors=vectors,
        index=indexed(bundle.file("index.faiss"), vectors, part.places(item_ids) if part else None),
        follows=read_neighbours(bundle, "follows", items),
        together=read_neighbours(bundle, "together", items),
        count=count,
        recent=recent,
        image_width=width,
        reading=reading_of(facts),
    )


def reading_of(facts: Mapping[str, Any]) -> Reading | None:
    if TOGETHER not in facts:
        return None
    acts, decay = int(facts[TOGETHER]["acts"]), float(facts[TOGETHER]["decay"])
    require(1 <= acts <= HISTORY and 0 < decay <= 1, f"facts.{TOGETHER} needs 1 to {HISTORY} acts, a decay in (0, 1]")
    return Reading(acts, decay)


def some_item(schema: Schema, width: int) -> dict[str, npt.NDArray[Any]]:
    """The item tower's inputs besides `ids`, of one item."""
    image = {"image": np.ones((1, width), np.float32)} if width else {}
    return {"numbers": np.zeros((1, len(schema.numeric)), np.float32), **image}


def no_history(people: int, dim: int) -> dict[str, npt.NDArray[Any]]:
    """The user tower's inputs of people who did nothing: all padding."""
    return {
        "history": np.zeros((people, HISTORY, dim), np.float32),
        "history_types": np.zeros((people, HISTORY), np.int64),
        "history_values": np.zeros((people, HISTORY), np.float32),
    }


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def column(bundle: Bundle, name: str, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array of the bundle; its dtype and shape are part of the contract (-1: any length)."""
    values: npt.NDArray[Any] = np.load(bundle.file(name), allow_pickle=False)
    fits = values.dtype == dtype and values.ndim == len(shape)
    fits = fits and all(want in (-1, got) for want, got in zip(shape, values.shape, strict=True))
    require(fits, f"{name} is {values.dtype} {values.shape}, needed is {np.dtype(dtype)} {shape}")
    return values


def read_neighbours(bundle: Bundle, name: str, items: int) -> Neighbours:
    places = column(bundle, f"{name}_rows.npy", np.int32, (items, -1))
    scores = column(bundle, f"{name}_scores.npy", np.float32, places.shape)
    require(not places.size or (places.min() >= -1 and places.max() < items), f"{name}_rows.npy leaves the table")
    require(bool(np.isfinite(scores).all()), f"{name}_scores.npy holds numbers that are not finite")
    return Neighbours(places, scores)


def read_stats(file: Path, item_ids: list[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`count` and `recent` per item, 0 for an item without statistics."""
    table = pq.read_table(file, columns=["item_id", "count", "recent"])
    place: Ints = places_of(item_ids, table["item_id"].to_pylist())
    found = np.zeros((2, len(item_ids)), np.float64)
    for row, name in enumerate(("count", "recent")):
        found[row, place[place >= 0]] = table[name].to_numpy()[place >= 0]
    require(bool(np.isfinite(found).all()), f"{file.name} holds numbers that are not finite")
    return found[0], found[1]


def places_of(item_ids: list[str], wanted: list[str]) -> Ints:
    place = {item_id: n for n, item_id in enumerate(item_ids)}
    return np.fromiter((place.get(item_id, -1) for item_id in wanted), np.int64, count=len(wanted))
