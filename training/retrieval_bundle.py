"""From trained towers to a sealed retrieval bundle (docs/bundles.md): graphs, vectors, index, tables, samples.

Everything is written into a folder of its own, which gets its final name, the bundle's id, last.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from training.companions import MADE_BY
from training.dataset import Dataset
from training.export import arrays, export
from training.item_images import ItemImages
from training.loop import History
from training.models.contract import Table
from training.retrieval_tables import (
    PROBES,
    Arrays,
    encode_items,
    settle,
    spread,
    user_inputs,
    write_items,
    write_neighbours,
    write_stats,
)
from training.sequences import Sequences
from training.vector_index import AUTO, write_index
from winnow.acts import TYPES
from winnow.artifacts import TOGETHER, Bundle, seal, write_vocabularies
from winnow.encoding import Schema
from winnow.features import Ints
from winnow.image_vectors import Halves
from winnow.inference import OnnxModel
from winnow.types import HISTORY, Floats

SAMPLES = 16
AXES = {"ids": {0: "n"}, "numbers": {0: "n"}}
IMAGE_AXES = {**AXES, "image": {0: "n"}}
HISTORY_AXES = {name: {0: "b"} for name in ("ids", "history", "history_types", "history_values")}


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, whose modules `item` and `user` are the towers, and the inputs that it was trained on."""

    model: nn.Module
    item_schema: Schema
    user_schema: Schema
    item_ids: Ints  # (N, W)
    item_numbers: Floats  # (N, D)
    every: Sequences  # all acts
    known: Sequences  # the acts that taught
    history: History
    images: ItemImages | None = None  # where the item tower reads them

    @property
    def image_vectors(self) -> Halves | None:
        return None if self.images is None else self.images.vectors


def write_bundle(
    dataset: Dataset,
    trained: Trained,
    target: Path,
    *,
    neighbours: int,
    metrics: Mapping[str, float],
    seed: int,
    table: Table | None = None,
    model: Mapping[str, Any] | None = None,
    index: str = AUTO,
) -> Bundle:
    """Write and seal; the bundle is `target/<its id>`. What lay there under that id stays: it is the same. `table` takes
    the place of what is counted to go together; `model` says whose all of it is, where it is not the two towers."""
    path = target / ".retrieval"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    trained.model.eval().cpu()
    vocabularies = {**trained.item_schema.vocabularies, **trained.user_schema.vocabularies}
    write_vocabularies(path, vocabularies)
    samples = write_item_tower(path, trained)
    tower = OnnxModel(path / "item_tower.onnx", threads=2)
    vectors = encode_items(tower, trained.item_ids, trained.item_numbers, trained.image_vectors)
    samples |= write_user_tower(path, trained, vectors)
    np.savez(path / "samples.npz", **samples)  # type: ignore[arg-type]
    probes = user_inputs(trained.every, spread(len(trained.every), PROBES), vectors)
    people = OnnxModel(path / "user_tower.onnx", threads=2).run(probes)["vector"]
    searched = write_index(path, vectors, people, asked=index)
    write_items(path, dataset.items, vectors)
    write_neighbours(path, dataset, trained.known, neighbours, table.neighbours if table else None)
    stats_at = write_stats(path, dataset, trained.known)
    facts = {
        "schemas": {"item_tower": trained.item_schema.to_json(), "user_tower": trained.user_schema.to_json()},
        "dim": vectors.shape[1],
        "history": HISTORY,
        "event_types": [kind.value for kind in TYPES],
        "value_mean": trained.known.values.mean,
        "value_std": trained.known.values.std,
        "stats_at": stats_at,
        "items": len(dataset.items),
        "index": searched,
        "neighbours": neighbours,
        "clock": dataset.clock,
        **({TOGETHER: reading_of(table, model)} if table else {}),
        **({"model": dict(model)} if model else {}),
        **({"image": trained.images.facts()} if trained.images else {}),
    }
    data = {"name": dataset.name, "snapshot": dataset.snapshot, "acts": len(trained.known), "seed": seed}
    return settle(seal(path, "retrieval", facts=facts, metrics=metrics, data=data), target)


def reading_of(table: Table, model: Mapping[str, Any] | None) -> dict[str, Any]:
    """How the table is read, and by what a refresh makes it again where it is not the bundle's own model."""
    return {"acts": table.acts, "decay": table.decay, **({} if model else {"made_by": MADE_BY})}


def write_item_tower(path: Path, trained: Trained) -> Arrays:
    """Export; returns samples of it, where it reads images of items with and without one."""
    rows, axes = spread(len(trained.item_ids), SAMPLES), AXES
    inputs = {"ids": torch.from_numpy(trained.item_ids[rows]), "numbers": torch.from_numpy(trained.item_numbers[rows])}
    if trained.images is not None:
        image = torch.from_numpy(trained.images.samples(len(rows)))
        inputs, axes = {**inputs, "image": image}, IMAGE_AXES
    export(trained.model.item, inputs, ["vector"], axes, path / "item_tower.onnx")
    return sampled(path, "item_tower", arrays(inputs))


def write_user_tower(path: Path, trained: Trained, vectors: Floats) -> Arrays:
    """Export; returns samples of it, among them a newcomer."""
    people = user_inputs(trained.every, spread(len(trained.every), SAMPLES), vectors)
    for name in ("history", "history_types", "history_values"):
        people[name][0] = 0
    tensors = {name: torch.from_numpy(column) for name, column in people.items()}
    export(trained.model.user, tensors, ["vector"], HISTORY_AXES, path / "user_tower.onnx")
    return sampled(path, "user_tower", people)


def sampled(path: Path, tower: str, inputs: Arrays) -> Arrays:
    """Inputs of a tower and what its file makes of them, under their keys in samples.npz."""
    outputs = OnnxModel(path / f"{tower}.onnx").run(inputs)
    return {f"{tower}.in.{key}": column for key, column in inputs.items()} | {
        f"{tower}.out.{key}": column for key, column in outputs.items()
    }
