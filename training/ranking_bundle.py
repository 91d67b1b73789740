"""From a trained ranker to a sealed ranking bundle (docs/bundles.md): graphs, vocabularies, statistics, samples.

Everything is written into a folder of its own, which gets its final name, the bundle's id, last.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from training.impressions import Impressions
from training.lists import Lists
from training.models.ranker import Ranker
from training.models.rankers import RANKERS
from training.retrieval_tables import settle, spread
from winnow.artifacts import Bundle, seal, write_vocabularies
from winnow.inference import OnnxModel, largest_difference

SAMPLES = 16
PARITY = 1e-5  # largest difference between the exported graphs, and to torch
Arrays = dict[str, npt.NDArray[Any]]


def write_bundle(
    model: Ranker,
    impressions: Impressions,
    target: Path,
    *,
    metrics: Mapping[str, float],
    seed: int,
    reference: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write and seal; the bundle is `target/<its id>`. ValueError when the graphs do not compute what torch does."""
    path = target / ".ranking"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    facts = impressions.facts
    write_vocabularies(path, impressions.vocabularies)
    shutil.copyfile(impressions.path / "stats.parquet", path / "stats.parquet")
    RANKERS[model.name].export(model, path)
    np.savez(path / "samples.npz", **samples(model, impressions, path))  # type: ignore[arg-type]
    kept = {name: facts[name] for name in ("schemas", "candidates", "stats_at", "retrieval", "clock")}
    if reference:
        kept["reference"] = reference
    data = {name: facts[name] for name in ("snapshot", "key", "moments")} | {"name": facts["dataset"], "seed": seed}
    return settle(
        seal(path, "ranking", facts=kept | {"model": model.name, "sizes": model.sizes}, metrics=metrics, data=data),
        target,
    )


def samples(model: Ranker, impressions: Impressions, path: Path) -> Arrays:
    """Inputs from real lists and the graphs' outputs, which are checked against torch and against each other."""
    lists = impressions.calibrate if len(impressions.calibrate.item) else impressions.rank
    moments, items = spread(len(lists), 2), spread(len(impressions.item_ids), SAMPLES)
    people: Arrays = {"ids": lists.user_ids[moments], "numbers": lists.user_numbers[moments]}
    things: Arrays = {"ids": impressions.item_ids[items], "numbers": impressions.item_numbers[items]}
    candidates = candidates_of(lists, len(moments), len(items))
    user, item = OnnxModel(path / "user_net.onnx").run(people), OnnxModel(path / "item_net.onnx").run(things)
    meeting: Arrays = {
        "user_vectors": user["vectors"],
        "user_hidden": user["hidden"],
        "item_vectors": np.stack([item["vectors"]] * len(moments)),
        "item_hidden": np.stack([item["hidden"]] * len(moments)),
        "candidates": candidates,
    }
    heads = OnnxModel(path / "cross.onnx").run(meeting)
    whole: Arrays = {
        "user_ids": np.repeat(people["ids"], len(items), axis=0),
        "user_numbers": np.repeat(people["numbers"], len(items), axis=0),
        "item_ids": np.tile(things["ids"], (len(moments), 1)),
        "item_numbers": np.tile(things["numbers"], (len(moments), 1)),
        "candidates": candidates.reshape(-1, candidates.shape[2]),
    }
    plain = OnnxModel(path / "plain.onnx").run(whole)
    check(model, whole, heads["heads"].reshape(-1, 3), plain["heads"])
    named = {"user_net": (people, user), "item_net": (things, item), "cross": (meeting, heads), "plain": (whole, plain)}
    found: Arrays = {}
    for name, (inputs, outputs) in named.items():
        found |= {f"{name}.in.{key}": column for key, column in inputs.items()}
        found |= {f"{name}.out.{key}": column for key, column in outputs.items()}
    return found


def candidates_of(lists: Lists, b: int, n: int) -> npt.NDArray[np.float32]:
    """(b, n, C) real candidate numbers, spread over all lists."""
    rows = np.linspace(0, len(lists.item) - 1, b * n).astype(np.int64)
    return lists.candidates[rows].reshape(b, n, -1)


@torch.no_grad()
def check(model: Ranker, inputs: Arrays, split: npt.NDArray[Any], plain: npt.NDArray[Any]) -> None:
    """Heads (n, 3) of the split graphs and of the plain one against torch; E[value] relative to its scale."""
    logits = model.plain(**{name: torch.from_numpy(column) for name, column in inputs.items()})
    expected = model.calibrated(logits).numpy()
    unit = np.array([1.0, 1.0, max(float(model.value_scale), 1.0)], np.float32)
    for name, heads in (("the split graphs", split), ("plain.onnx", plain)):
        worst = largest_difference(heads / unit, expected / unit)
        if not worst <= PARITY:
            raise ValueError(f"{name} differ from torch by {worst:.2g}, allowed is {PARITY:g}")
