"""What a retrieval bundle holds besides its graphs: item vectors, index, neighbours, statistics (docs/bundles.md).

All of it follows from two ONNX files, a catalogue and acts, so a training and a refresh write it by the same functions.
Knows no network and no torch.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from training.cooccurrence import Neighbours, follows, together
from training.dataset import Dataset
from training.sequences import DISMISS, Sequences
from winnow.acts import TYPES
from winnow.artifacts import Bundle, open_bundle
from winnow.features import Ints, item_digest, item_stats
from winnow.image_vectors import Halves
from winnow.inference import OnnxModel
from winnow.types import Floats, Item

PROBES = 500  # people asked to compare the index with exact search
ENCODE_BATCH = 4_096
Arrays = dict[str, npt.NDArray[Any]]


def settle(bundle: Bundle, target: Path) -> Bundle:
    """Give a sealed bundle its place, unless it is there already."""
    final = target / bundle.id
    if final.exists():
        shutil.rmtree(bundle.path)
    else:
        bundle.path.rename(final)
    return open_bundle(final, bundle.kind)


def spread(n: int, most: int) -> Ints:
    """At most `most` rows of n, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).astype(np.int64))


def encode_items(tower: OnnxModel, ids: Ints, numbers: Floats, images: Halves | None = None) -> Floats:
    """(N, 128) by the exported graph: what serving would compute. `images` (N, W) for a tower that reads them."""
    parts = []
    for start in range(0, len(ids), ENCODE_BATCH):
        some = slice(start, start + ENCODE_BATCH)
        image = {} if images is None else {"image": images[some].astype(np.float32)}
        parts.append(tower.run({"ids": ids[some], "numbers": numbers[some], **image})["vector"])
    return np.concatenate(parts)


def user_inputs(every: Sequences, positions: Ints, vectors: Floats) -> Arrays:
    """What the user tower reads before these acts, the items' vectors by row."""
    batch = every.before(positions)
    inputs = np.asarray(batch["inputs"], np.int64)
    known = (inputs >= 0)[..., None]
    return {
        "ids": np.ascontiguousarray(batch["ids"][:, 0]),
        "history": np.where(known, vectors[np.maximum(inputs, 0)], np.float32(0.0)),
        "history_types": batch["types"],
        "history_values": batch["values"],
    }


def write_items(path: Path, items: tuple[Item, ...], vectors: Floats) -> None:
    """Ids in row order, the content they were computed from, and the vectors."""
    (path / "item_ids.json").write_text(json.dumps([item.item_id for item in items], ensure_ascii=False), "utf-8")
    np.save(path / "item_digests.npy", np.asarray([item_digest(item) for item in items], np.uint64))
    np.save(path / "item_vectors.npy", vectors)


def write_neighbours(path: Path, dataset: Dataset, known: Sequences, k: int, own: Neighbours | None = None) -> None:
    """The tables `follows_*` and `together_*`, of acts other than dismissals; `own` is a model's in place of the
    latter."""
    known = known.restricted(dataset.acts.type != DISMISS)
    items, starts, n_items = known.items(), known.starts, len(dataset.items)
    for name, table in (
        ("follows", follows(items, starts, n_items, k)),
        ("together", together(items, starts, n_items, k) if own is None else own),
    ):
        np.save(path / f"{name}_rows.npy", table[0])
        np.save(path / f"{name}_scores.npy", table[1])


def write_stats(path: Path, dataset: Dataset, known: Sequences) -> float:
    """`stats.parquet` from the acts that taught; returns the moment they are of, seconds since 1970."""
    acts = known.log.take(known.act_rows)
    now = float(acts.at.max()) if len(acts) else 0.0
    columns = item_stats(acts.item, acts.at, rated(acts.value, acts.type), len(dataset.items), now)
    pq.write_table(
        pa.table({"item_id": pa.array(list(dataset.item_ids), pa.string()), **columns}), path / "stats.parquet"
    )
    return now


def rated(values: Floats, types: npt.NDArray[np.int8]) -> Floats:
    """Ratings only; the value of a cart or a purchase is a price."""
    return np.where(types == TYPES.index("rating"), values, np.float32(np.nan))
