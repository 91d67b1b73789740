"""A training step of one model in one variant: `python -m bench.gpu.training two_tower bf16 FOLDER …`, or by torchrun.

The whole step as `winnow train` takes it: batch, copy, forward, backward, optimiser. An epoch is cut to some steps and ends
with the card having done them, and the first, in which everything is compiled and allocated, is told apart. Figures:
`step_ms`, the median over the epochs; `batch_ms`, the part of it in which a CPU makes the batch; `examples_per_s` (targets
of the towers, candidates of the ranker), over all processes; `peak_mb` of the card, or of the process where there is none;
`first_epoch_s`; and the last `loss`, which says whether the variants learn the same.
"""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress, TaskID

from bench.gpu.apart import chosen, options, tell
from bench.gpu.worlds import impressions
from bench.scale.steps import loaded
from training.batches import TrainingBatches
from training.loop import Batch, LoopSettings, Place, Precision, place, shuffled
from training.sequences import Sequences
from training.train_ranking import FORGETFUL, RankingSettings, batch_of, fit_ranker
from training.train_retrieval import fit_towers
from training.train_retrieval import preset as retrieval_preset

LOSS = re.compile(r"loss ([-\d.]+)")


@dataclass(frozen=True, slots=True)
class Variant:
    """How a step is computed; `spread` over all cards, or over two processes where there is none."""

    precision: Precision
    compiled: bool = False
    spread: bool = False


VARIANTS = {
    "fp32": Variant("fp32"),
    "bf16": Variant("bf16"),
    "bf16_compiled": Variant("bf16", compiled=True),
    "bf16_ddp": Variant("bf16", spread=True),
}


@dataclass(frozen=True, slots=True)
class Length:
    """Of a measurement: steps of an epoch, and epochs after the first."""

    steps: int
    epochs: int


class Ticks(Progress):
    """A progress bar that nobody sees, and that keeps when each epoch ended and with which loss."""

    def __init__(self) -> None:
        super().__init__(disable=True)
        self.at: list[float] = []
        self.losses: list[float] = []

    def add_task(self, description: str, *given: Any, **named: Any) -> TaskID:
        self.at.append(time.perf_counter())
        return super().add_task(description, *given, **named)

    def update(self, task_id: TaskID, *, description: str | None = None, **named: Any) -> None:
        if description is not None:  # the loop says so once an epoch
            self.at.append(time.perf_counter())
            self.losses += [float(said) for said in LOSS.findall(description)]


@dataclass(frozen=True)
class Subject:
    """A model with its data: one fit, the same batches again, and how many examples one of them has."""

    loop: LoopSettings
    fit: Callable[[LoopSettings, Progress], None]
    batches: Callable[[int, int, int], Iterable[Batch]]
    examples: Callable[[Batch], int]


def two_tower(folder: Path, size: int, steps: int) -> Subject:
    """`size` windows a batch; nothing is held out."""
    dataset, parts = loaded(folder)
    nobody = replace(parts, calibrate=np.zeros_like(parts.calibrate))
    settings = replace(retrieval_preset("full"), windows=size)
    known: list[Sequences] = []

    def fit(loop: LoopSettings, progress: Progress) -> None:
        known.append(fit_towers(dataset, nobody, replace(settings, loop=loop), progress).known)

    def batches(epoch: int, rank: int, world: int) -> Iterable[Batch]:
        return TrainingBatches(known[0], size, settings.stride, settings.loop.seed)(epoch, rank, world)

    return Subject(settings.loop, fit, batches, lambda batch: int((batch["targets"] >= 0).sum()))


def dlrm(folder: Path, size: int, steps: int) -> Subject:
    """`size` moments a batch, lists of 33."""
    with place() as here:
        lists = impressions(folder, size * steps * here.world)
    settings = RankingSettings(regularisation=FORGETFUL, moments=size)

    def fit(loop: LoopSettings, progress: Progress) -> None:
        fit_ranker(lists, replace(settings, loop=loop), progress)

    def batches(epoch: int, rank: int, world: int) -> Iterable[Batch]:
        for rows in shuffled(len(lists.rank), size, settings.loop.seed, epoch, rank, world):
            yield batch_of(lists, lists.rank, rows, 1.0)

    return Subject(settings.loop, fit, batches, lambda batch: int((batch["weight"] > 0).sum()))


MODELS: dict[str, Callable[[Path, int, int], Subject]] = {"two_tower": two_tower, "dlrm": dlrm}


def measured(subject: Subject, variant: Variant, length: Length) -> dict[str, float]:
    """The figures, which every process has alike but for its memory."""
    ticks = Ticks()
    loop = replace(
        subject.loop,
        epochs=1 + length.epochs,
        most_steps=length.steps,
        patience=0,
        precision=variant.precision,
        compiled=variant.compiled,
    )
    with place() as here:
        subject.fit(loop, ticks)
        batch_s, steps, examples = counted(subject, here, length.steps)
        epochs_s = np.diff(ticks.at)
        step_s = float(np.median(epochs_s[1:])) / steps
        return {
            "step_ms": 1000 * step_s,
            "batch_ms": 1000 * batch_s / steps,
            "examples_per_s": here.world * examples / steps / step_s,
            "peak_mb": peak_mb(here),
            "first_epoch_s": float(epochs_s[0]),
            "loss": ticks.losses[-1],
            "processes": here.world,
        }


def counted(subject: Subject, here: Place, most: int) -> tuple[float, int, int]:
    """Seconds in which a CPU makes the batches of an epoch, how many these are, and their examples."""
    began = time.perf_counter()
    made = list(islice(subject.batches(1, here.rank, here.world), most))
    return time.perf_counter() - began, len(made), sum(map(subject.examples, made))


def peak_mb(here: Place) -> float:
    if here.device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(here.device)) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: Sequence[str] | None = None) -> None:
    made = options(__doc__.splitlines()[0])
    made.add_argument("model", choices=MODELS)
    made.add_argument("variant", choices=VARIANTS)
    made.add_argument("folder", type=Path)
    for name in ("size", "steps", "epochs"):
        made.add_argument(f"--{name}", type=int, required=True)
    asked = chosen(made, argv)
    with place() as here:
        subject = MODELS[asked.model](asked.folder, asked.size, asked.steps)
        figures = measured(subject, VARIANTS[asked.variant], Length(asked.steps, asked.epochs))
        if here.rank == 0:
            tell(asked.out, figures)


if __name__ == "__main__":
    main()
