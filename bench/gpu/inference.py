"""The models that serving asks, by ONNX Runtime on a card: `python -m bench.gpu.inference FOLDER …`; on the CPU where there is none.

The user tower, and the ranker's cross network over 500 and 1,000 candidates; `rank_500` is the person's part and the cross
network over 500, which is what a request asks of a card. Random weights: time does not depend on them. Inputs lie in the process's
memory and answers come back there, as in serving; gathering the items' states is the process's own work and not in it.

`cuda` computes in float32 throughout and must answer what the CPU answers, as nearly as a bundle's samples are held to; with
`cuda_tf32`, ONNX Runtime's default, products are made of 10 bits, and how far off that is, is printed. A batch is as many
requests in one call. Figures: `p50_ms` and `p99_ms` of a call, `difference`, and `rank.500.requests_per_s` by the best batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch

from bench.gpu.apart import chosen, options, tell, wall_ms
from bench.gpu.worlds import SOURCES, ranker_schemas
from bench.kernels import Array, encoded, ids_of
from bench.rankers import span
from bench.scale.steps import loaded, unit
from training.models.dlrm import Dlrm
from training.models.dlrm_graphs import export
from training.models.ranker import Inputs, Regularisation
from training.models.two_tower import TowerSizes, UserTower
from training.train_retrieval import schemas_of
from winnow.acts import TYPES
from winnow.candidate_features import candidate_names
from winnow.encoding import Schema
from winnow.inference import TOLERANCE, OnnxModel, Provider, largest_difference
from winnow.types import HISTORY

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
KINDS: dict[str, tuple[Provider, ...]] = {
    "cpu": (CPU,),
    "cuda": ((CUDA, {"use_tf32": "0"}), CPU),
    "cuda_tf32": (CUDA, CPU),
}
HELD = "cuda"  # to the tolerance
TURNS = 4  # different inputs
Models = Mapping[str, OnnxModel]
Case = Callable[[Models, int], Array]


@dataclass(frozen=True)
class Exported:
    """The files of untrained models over a world's schemas, and what their inputs look like."""

    folder: Path
    tower: Schema
    ranker: Schema
    sizes: Mapping[str, int]
    dim: int

    @classmethod
    def over(cls, home: Path, folder: Path) -> Exported:
        dataset, parts = loaded(home)
        _, tower = schemas_of(dataset, parts)
        schemas, sizes = ranker_schemas(dataset, parts), TowerSizes()
        torch.manual_seed(0)
        UserTower(tower, len(TYPES), sizes).eval().draw(folder / "user_tower.onnx")
        raw = np.random.default_rng(0).random((100, len(candidate_names(SOURCES))), np.float32)
        spans = span(len(schemas.user.numeric)), span(len(schemas.item.numeric))
        ranker = Dlrm(Inputs(schemas.user, schemas.item, *spans, raw), Regularisation()).eval()
        export(ranker, folder)
        return cls(folder, tower, schemas.user, ranker.sizes | {"candidates": raw.shape[1]}, sizes.dim)

    def models(self, providers: tuple[Provider, ...]) -> dict[str, OnnxModel]:
        names = ("user_tower", "user_net", "cross")
        return {name: OnnxModel(self.folder / f"{name}.onnx", providers=providers) for name in names}

    def cases(self, b: int) -> dict[str, Case]:
        """What `b` requests ask at once, by name: models and the turn to the answer (b, …)."""
        rng = np.random.default_rng(b)
        people = [self.person(b, rng) for _ in range(TURNS)]
        users = [encoded(self.ranker, b, rng) for _ in range(TURNS)]
        met = {n: [self.meeting(b, n, rng) for _ in range(TURNS)] for n in (500, 1_000)}

        def rank(models: Models, k: int) -> Array:
            user = models["user_net"].run(users[k % TURNS])
            given = {"user_vectors": user["vectors"], "user_hidden": user["hidden"]}
            return models["cross"].run(met[500][k % TURNS] | given)["heads"]

        return {
            "user_tower": lambda models, k: models["user_tower"].run(people[k % TURNS])["vector"],
            "cross_500": lambda models, k: models["cross"].run(met[500][k % TURNS])["heads"],
            "cross_1000": lambda models, k: models["cross"].run(met[1_000][k % TURNS])["heads"],
            "rank_500": rank,
        }

    def person(self, b: int, rng: np.random.Generator) -> dict[str, Array]:
        return {
            "ids": ids_of(self.tower, b, rng),
            "history": unit(rng.standard_normal((b * HISTORY, self.dim), np.float32)).reshape(b, HISTORY, self.dim),
            "history_types": rng.integers(1, len(TYPES) + 1, (b, HISTORY), np.int64),
            "history_values": rng.standard_normal((b, HISTORY), np.float32),
        }

    def meeting(self, b: int, n: int, rng: np.random.Generator) -> dict[str, Array]:
        s = self.sizes
        return {
            "user_vectors": rng.standard_normal((b, s["user_vectors"], s["embedding"]), np.float32),
            "user_hidden": rng.standard_normal((b, s["hidden"]), np.float32),
            "item_vectors": rng.standard_normal((b, n, s["item_vectors"], s["embedding"]), np.float32),
            "item_hidden": rng.standard_normal((b, n, s["hidden"]), np.float32),
            "candidates": rng.random((b, n, s["candidates"]), np.float32),
        }


def measured(
    exported: Exported, batches: Sequence[int], seconds: float, device: str
) -> tuple[dict[str, float], dict[str, str]]:
    """Figures, and what is missing. Beside a card, the CPU answers single requests on one thread, for the ratio."""
    cpu = exported.models(KINDS["cpu"])
    if device == "cpu":
        figures = timed("cpu", cpu, exported, batches, seconds)
        return figures | best("cpu", figures, batches), {}
    figures = timed("cpu", cpu, exported, batches[:1], seconds)
    if reason := missing_provider():
        return figures, dict.fromkeys(("cuda", "cuda_tf32"), reason)
    missing = {}
    for kind in ("cuda", "cuda_tf32"):
        models = exported.models(KINDS[kind])
        if any(CUDA not in model.providers for model in models.values()):
            missing[kind] = f"{CUDA} did not start: is its CUDA, or cuDNN, another than the one here?"
            continue
        figures |= timed(kind, models, exported, batches, seconds)
        figures |= differences(kind, models, cpu, exported)
    return figures | (best(HELD, figures, batches) if HELD not in missing else {}), missing


def missing_provider() -> str:
    """Why ONNX Runtime cannot use a card; empty where it may."""
    if CUDA in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()  # CUDA's and cuDNN's libraries that torch brought
        return ""
    return f"this onnxruntime ({onnxruntime.__version__}) has no {CUDA}: install onnxruntime-gpu in its place"


def timed(kind: str, models: Models, exported: Exported, batches: Sequence[int], seconds: float) -> dict[str, float]:
    figures = {}
    for b in batches:
        for name, case in exported.cases(b).items():
            took = wall_ms(partial(case, models), seconds)
            figures[f"{kind}.{name}.batch_{b}.p50_ms"] = float(np.median(took))
            figures[f"{kind}.{name}.batch_{b}.p99_ms"] = float(np.quantile(took, 0.99))
    return figures


def differences(kind: str, models: Models, cpu: Models, exported: Exported) -> dict[str, float]:
    """The largest difference to the CPU's answers, over all turns."""
    return {
        f"{kind}.{name}.difference": max(largest_difference(case(models, k), case(cpu, k)) for k in range(TURNS))
        for name, case in exported.cases(2).items()
    }


def best(kind: str, figures: Mapping[str, float], batches: Sequence[int]) -> dict[str, float]:
    """How many requests of 500 candidates are ranked in a second, by the batch that ranks most."""
    rates = {b: 1000 * b / figures[f"{kind}.rank_500.batch_{b}.p50_ms"] for b in batches}
    most = max(rates, key=rates.__getitem__)
    return {"rank.500.requests_per_s": rates[most], "rank.500.batch": most}


def wrong(figures: Mapping[str, float]) -> dict[str, float]:
    """Answers of the card that are farther from the CPU's than a bundle's samples may be."""
    return {
        name: value
        for name, value in figures.items()
        if name.startswith(f"{HELD}.") and name.endswith(".difference") and not value <= TOLERANCE
    }


def main(argv: Sequence[str] | None = None) -> None:
    made: Any = options(__doc__.splitlines()[0])
    made.add_argument("folder", type=Path)
    made.add_argument("--batches", type=int, nargs="+", required=True)
    made.add_argument("--seconds", type=float, required=True)
    given = chosen(made, argv)
    with TemporaryDirectory() as folder:
        exported = Exported.over(given.folder, Path(folder))
        tell(given.out, *measured(exported, given.batches, given.seconds, given.device))


if __name__ == "__main__":
    main()
