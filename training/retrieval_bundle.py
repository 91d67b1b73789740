"""From a trained two-tower model to a sealed retrieval bundle (docs/bundles.md): graphs, vectors, index, tables, samples.

Everything is written into a folder of its own, which gets its final name, the bundle's id, last.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from training.cooccurrence import follows, together
from training.dataset import Dataset
from training.export import arrays, export
from training.loop import History
from training.models.two_tower import TwoTower
from training.sequences import DISMISS, Sequences, tensors
from winnow.acts import TYPES
from winnow.artifacts import Bundle, open_bundle, seal, write_vocabularies
from winnow.features import Ints, Schema, item_digest, item_stats
from winnow.inference import OnnxModel
from winnow.types import HISTORY, Floats, Item

SAMPLES = 16
# At 100,000 trained vectors: 1,024 cells, 64 of them looked into, 0.3 ms at a recall of 0.999 for 500; a graph of
# 32 links 1.5 ms, all vectors 3.2 ms, in half precision 2.2 ms.
CELLS_FROM = 50_000  # items; below, comparing all is as fast
CELLS_PER_ROOT = 3  # cells per square root of the items
CELLS_SEED = 7
LEAST_PROBES, MOST_PROBES = 32, 256
RECALL = 0.99
INDEX_PROBES = 500  # people asked to compare the index with exact search
ENCODE_BATCH = 4_096
AXES = {"ids": {0: "n"}, "numbers": {0: "n"}}
HISTORY_AXES = {name: {0: "b"} for name in ("ids", "history", "history_types", "history_values")}


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and the inputs that it was trained on."""

    model: TwoTower
    item_schema: Schema
    user_schema: Schema
    item_ids: Ints  # (N, W)
    item_numbers: Floats  # (N, D)
    every: Sequences  # all acts
    known: Sequences  # the acts that taught
    history: History


def write_bundle(
    dataset: Dataset, trained: Trained, target: Path, *, neighbours: int, metrics: Mapping[str, float], seed: int
) -> Bundle:
    """Write and seal; the bundle is `target/<its id>`. What lay there under that id stays: it is the same."""
    path = target / ".retrieval"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    trained.model.eval().cpu()
    vocabularies = {**trained.item_schema.vocabularies, **trained.user_schema.vocabularies}
    write_vocabularies(path, vocabularies)
    samples = write_towers(path, trained)
    vectors = encode_items(path, trained)
    people = encode_people(path, trained, INDEX_PROBES)
    index = write_index(path, vectors, people)
    write_items(path, dataset.items, vectors)
    write_neighbours(path, dataset, trained.known, neighbours)
    stats_at = write_stats(path, dataset, trained.known)
    np.savez(path / "samples.npz", **samples)  # type: ignore[arg-type]
    facts = {
        "schemas": {"item_tower": trained.item_schema.to_json(), "user_tower": trained.user_schema.to_json()},
        "dim": vectors.shape[1],
        "history": HISTORY,
        "event_types": [kind.value for kind in TYPES],
        "value_mean": trained.known.values.mean,
        "value_std": trained.known.values.std,
        "stats_at": stats_at,
        "items": len(dataset.items),
        "index": index,
        "clock": dataset.clock,
    }
    data = {"name": dataset.name, "snapshot": dataset.snapshot, "acts": len(trained.known.acts), "seed": seed}
    bundle = seal(path, "retrieval", facts=facts, metrics=metrics, data=data)
    return settle(bundle, target)


def settle(bundle: Bundle, target: Path) -> Bundle:
    """Give a sealed bundle its place, unless it is there already."""
    final = target / bundle.id
    if final.exists():
        shutil.rmtree(bundle.path)
    else:
        bundle.path.rename(final)
    return open_bundle(final, bundle.kind)


def write_towers(path: Path, trained: Trained) -> dict[str, npt.NDArray[Any]]:
    """Export both towers; returns the samples of both."""
    rows = np.linspace(0, len(trained.item_ids) - 1, min(SAMPLES, len(trained.item_ids))).astype(np.int64)
    items = {"ids": torch.from_numpy(trained.item_ids[rows]), "numbers": torch.from_numpy(trained.item_numbers[rows])}
    people = user_inputs(trained, spread(len(trained.every.acts), SAMPLES))
    people["history"][0], people["history_values"][0], people["history_types"][0] = 0.0, 0.0, 0  # one newcomer
    export(trained.model.item, items, ["vector"], AXES, path / "item_tower.onnx")
    export(trained.model.user, people, ["vector"], HISTORY_AXES, path / "user_tower.onnx")
    samples: dict[str, npt.NDArray[Any]] = {}
    for name, inputs in (("item_tower", arrays(items)), ("user_tower", arrays(people))):
        outputs = OnnxModel(path / f"{name}.onnx").run(inputs)
        samples |= {f"{name}.in.{key}": value for key, value in inputs.items()}
        samples |= {f"{name}.out.{key}": value for key, value in outputs.items()}
    return samples


def spread(n: int, most: int) -> Ints:
    """At most `most` rows of n, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).astype(np.int64))


def user_inputs(trained: Trained, positions: Ints) -> dict[str, Tensor]:
    """What the user tower reads before these acts."""
    batch = tensors(trained.every.before(positions))
    rows, place = torch.unique(batch["inputs"], return_inverse=True)
    with torch.no_grad():
        history = trained.model.vectors_of(rows)[place]
    return {
        "ids": batch["ids"][:, 0].contiguous(),
        "history": history,
        "history_types": batch["types"],
        "history_values": batch["values"],
    }


def encode_items(path: Path, trained: Trained) -> Floats:
    """(N, 128) by the exported graph: what serving would compute."""
    tower = OnnxModel(path / "item_tower.onnx", threads=2)
    parts = [
        tower.run(
            {"ids": trained.item_ids[s : s + ENCODE_BATCH], "numbers": trained.item_numbers[s : s + ENCODE_BATCH]}
        )
        for s in range(0, len(trained.item_ids), ENCODE_BATCH)
    ]
    return np.concatenate([part["vector"] for part in parts])


def encode_people(path: Path, trained: Trained, most: int) -> Floats:
    """(≤ most, 128) person vectors at moments spread over the acts."""
    tower = OnnxModel(path / "user_tower.onnx", threads=2)
    return tower.run(arrays(user_inputs(trained, spread(len(trained.every.acts), most))))["vector"]


def write_index(path: Path, vectors: Floats, people: Floats, k: int = 100) -> dict[str, Any]:
    """Build the index; returns what the manifest says of it: recall@100 is against exact search, for real people.

    Many vectors are searched by cells, of which a request looks into as few as find what is there. Where even many
    cells find too little (vectors without clusters), all vectors are compared in half precision.
    """
    n = len(vectors)
    kind = "flat" if n < CELLS_FROM else "ivf"
    index = filled(kind, vectors)
    recall = (
        probed(index, vectors, people, min(k, n)) if kind == "ivf" else recall_of(index, vectors, people, min(k, n))
    )
    if kind == "ivf" and recall < RECALL:
        kind = "fp16"
        index = filled(kind, vectors)
        recall = recall_of(index, vectors, people, min(k, n))
    faiss.write_index(index, str(path / "index.faiss"))
    size = (path / "index.faiss").stat().st_size
    return {"kind": kind, "recall_at_100": round(recall, 4), "bytes_per_item": round(size / max(n, 1), 1)}


def filled(kind: str, vectors: Floats) -> Any:
    """A FAISS index of this kind over the vectors, by inner product."""
    n, dim = vectors.shape
    index: Any = faiss.IndexFlatIP(dim)
    if kind == "ivf":
        cells = 2 ** round(math.log2(CELLS_PER_ROOT * math.sqrt(n)))
        index = faiss.IndexIVFFlat(index, dim, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.spherical, index.cp.seed = True, CELLS_SEED
        index.train(vectors)
    elif kind == "fp16":
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    return index


def probed(index: Any, vectors: Floats, people: Floats, k: int) -> float:
    """Give the index the fewest cells to look into that reach `RECALL`, or `MOST_PROBES`; returns what they reach."""
    recall = 0.0
    index.nprobe = LEAST_PROBES
    while (recall := recall_of(index, vectors, people, k)) < RECALL and index.nprobe < MOST_PROBES:
        index.nprobe *= 2
    return recall


def recall_of(index: Any, vectors: Floats, people: Floats, k: int) -> float:
    """Share of each person's true k nearest that the index finds."""
    found = index.search(people, k)[1]
    exact = np.argpartition(-(people @ vectors.T), k - 1, axis=1)[:, :k]
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    return float(np.mean(hits)) / k


def write_items(path: Path, items: tuple[Item, ...], vectors: Floats) -> None:
    """Ids in row order, the content they were computed from, and the vectors."""
    (path / "item_ids.json").write_text(json.dumps([item.item_id for item in items], ensure_ascii=False), "utf-8")
    np.save(path / "item_digests.npy", np.asarray([item_digest(item) for item in items], np.uint64))
    np.save(path / "item_vectors.npy", vectors)


def write_neighbours(path: Path, dataset: Dataset, known: Sequences, k: int) -> None:
    """The tables `follows_*` and `together_*`, of acts other than dismissals."""
    known = known.restricted(dataset.acts.type != DISMISS)
    items, starts, n_items = known.acts.item, known.starts, len(dataset.items)
    for name, table in (
        ("follows", follows(items, starts, n_items, k)),
        ("together", together(items, starts, n_items, k)),
    ):
        np.save(path / f"{name}_rows.npy", table[0])
        np.save(path / f"{name}_scores.npy", table[1])


def write_stats(path: Path, dataset: Dataset, known: Sequences) -> float:
    """`stats.parquet` from the acts that taught; returns the moment they are of, seconds since 1970."""
    acts = known.acts
    now = float(acts.at.max()) if len(acts) else 0.0
    columns = item_stats(acts.item, acts.at, rated(acts.value, acts.type), len(dataset.items), now)
    pq.write_table(
        pa.table({"item_id": pa.array(list(dataset.item_ids), pa.string()), **columns}), path / "stats.parquet"
    )
    return now


def rated(values: Floats, types: npt.NDArray[np.int8]) -> Floats:
    """Ratings only; the value of a cart or a purchase is a price."""
    return np.where(types == TYPES.index("rating"), values, np.float32(np.nan))
