"""What a candidate costs by ranker: `python -m bench.rankers BUNDLE [--seconds 20]`, over the schemas of a ranking bundle.

Every ranker is made with random weights, since time does not depend on them, and with the top of the training's default and
with twice of it. All are timed in turn in one process, as `bench.kernels` does, from gathering the items' states to the heads;
the person's part is a run per request beside it. The ratio is to DLRM with the default top.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.kernels import TABLE, TURNS, Step, time_steps
from training.models.ranker import TOP, Inputs, Range, Ranker, Regularisation, Top
from training.models.rankers import RANKERS
from winnow.artifacts import Bundle, open_bundle
from winnow.encoding import Schema
from winnow.inference import OnnxModel

CANDIDATES = (500, 1_000)
TOPS: tuple[Top, ...] = (TOP, (2 * TOP[0], 2 * TOP[1]))
FIRST = f"dlrm {TOP[0]}-{TOP[1]}"


def models(bundle: Bundle) -> dict[str, Ranker]:
    """Every ranker over the bundle's schemas, by name and top."""
    schemas = {
        side: Schema.from_json(bundle.facts["schemas"][side], bundle.vocabularies()) for side in ("user", "item")
    }
    spans = {side: span(len(schema.numeric)) for side, schema in schemas.items()}
    raw = np.random.default_rng(0).random((100, len(bundle.facts["candidates"])), np.float32)
    inputs = Inputs(schemas["user"], schemas["item"], spans["user"], spans["item"], raw)
    torch.manual_seed(0)
    return {
        f"{name} {top[0]}-{top[1]}": kind.make(inputs, Regularisation(), top).eval()
        for name, kind in RANKERS.items()
        for top in TOPS
    }


def span(numbers: int) -> Range:
    return Range(np.full(numbers, -3, np.float32), np.full(numbers, 3, np.float32))


def steps(model: Ranker, folder: Path, n: int, table: int = TABLE) -> dict[str, Step]:
    """Gathering `n` items of a table of random states into buffers, and that with the cross network over them."""
    RANKERS[model.name].export(model, folder)
    cross, sizes, rng = OnnxModel(folder / "cross.onnx"), model.sizes, np.random.default_rng(1)
    vectors = rng.standard_normal((table, sizes["item_vectors"], sizes["embedding"]), np.float32)
    hidden = rng.standard_normal((table, sizes["hidden"]), np.float32)
    rows = [rng.choice(table, n, replace=False) for _ in range(TURNS)]
    into = [np.empty((n, *states.shape[1:]), np.float32) for states in (vectors, hidden)]
    given: dict[str, npt.NDArray[Any]] = {
        "user_vectors": rng.standard_normal((1, sizes["user_vectors"], sizes["embedding"]), np.float32),
        "user_hidden": rng.standard_normal((1, sizes["hidden"]), np.float32),
        "candidates": rng.random((1, n, len(model.candidate_low)), np.float32),
        "item_vectors": into[0][None],
        "item_hidden": into[1][None],
    }

    def gather(k: int) -> None:
        for states, buffer in zip((vectors, hidden), into, strict=True):
            np.take(states, rows[k % TURNS], axis=0, out=buffer, mode="clip")

    def whole(k: int) -> object:
        gather(k + TURNS // 2)  # others than the step before has left in the cache
        return cross.run(given)

    return {"gather": gather, "rank": whole}


def measure(bundle: Bundle, seconds: float, n: int, table: int = TABLE) -> dict[str, tuple[float, float]]:
    """Median milliseconds of CPU, of gathering and of ranking `n` candidates, by ranker."""
    with tempfile.TemporaryDirectory() as folder:
        every = {
            f"{name}/{step}": run
            for name, model in models(bundle).items()
            for step, run in steps(model, Path(folder), n, table).items()
        }
    took = time_steps(every, seconds)
    return {
        name.removesuffix("/rank"): (float(np.median(took[name.replace("/rank", "/gather")])), float(np.median(times)))
        for name, times in took.items()
        if name.endswith("/rank")
    }


def table_of(found: Mapping[str, tuple[float, float]]) -> str:
    first = found[FIRST][1]
    lines = [f"{name:18} {gather:6.2f} {rank:6.2f} {rank / first:6.2f}" for name, (gather, rank) in found.items()]
    return "\n".join([f"{'':18} {'gather':>6} {'rank':>6} {'ratio':>6}", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.rankers", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="per number of candidates")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for n in CANDIDATES:
        print(f"{n} candidates, milliseconds of CPU, median")
        print(table_of(measure(open_bundle(chosen.bundle, "ranking"), chosen.seconds, n)))


if __name__ == "__main__":
    main()
