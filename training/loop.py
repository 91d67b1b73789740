"""The training loop of every model: plain, or under `torchrun` as distributed data parallel; resumable; deterministic.

A step's randomness (dropout, sampled negatives) is seeded from (seed, epoch, step, rank), and a checkpoint is replaced
atomically, so a run that is killed anywhere and started again ends with the weights it would have had, bit for bit on
one process. The loop knows neither models nor data: it is given batches and a loss.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from operator import length_hint
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from rich.progress import Progress, TaskID
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Batch = dict[str, Tensor]
Batches = Callable[[int, int, int], Iterable[Batch]]
"""(epoch, rank, world) → the epoch's batches of one process: a pure function, as many on every rank."""
Loss = Callable[[Any, Batch], Tensor]
Precision = Literal["auto", "fp32", "bf16"]
OnEpoch = Callable[[int, nn.Module], float | None]
"""(epoch, bare model) → a quality to maximise, or None; called on rank 0 after every epoch, in eval mode."""

COLLECTIVE_TIMEOUT_S = 600
SETTLE_S = 0.5
"""Between the last collective and the end of its process group. A thread of gloo's drops what it carried after whoever waited for
it has gone on, and needs the interpreter for that, which the group's destructor holds while it waits for the thread."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How to train. `run` names data and model: a checkpoint of another run, or of other settings, is not resumed."""

    epochs: int = 5
    lr: float = 1e-3
    final_lr: float = 0.1  # share of `lr` in the last epoch; the cosine between falls from epoch to epoch
    warmup_steps: int = 100
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 5.0
    patience: int = 0  # epochs without a better quality before the run stops; 0: never
    seed: int = 0
    checkpoint: Path | None = None
    checkpoint_every_s: float = 60.0  # besides the end of every epoch
    run: str = ""
    most_steps: int = 0  # of an epoch: for measuring what a step costs; 0: all
    precision: Precision = "auto"  # of products; weights and sums are float32. auto: bf16 on a GPU, fp32 on a CPU
    compiled: bool = False  # by torch.compile: the first steps take up to minutes, and roundings are other ones

    def identity(self, world: int) -> str:
        """What must be equal for a checkpoint to be continued."""
        shape = (self.epochs, self.lr, self.final_lr, self.warmup_steps, self.weight_decay, self.betas, self.clip_norm)
        fewer = (self.most_steps,) if self.most_steps else ()
        other = (self.precision, self.compiled) if self.compiled or self.precision != "auto" else ()
        return repr((self.run, self.seed, self.patience, world, *shape, *fewer, *other))

    def halves(self, device: torch.device) -> bool:
        """Whether products are made of bfloat16 numbers there."""
        return self.precision == "bf16" or (self.precision == "auto" and device.type == "cuda")


@dataclass
class History:
    """What happened: per epoch the mean loss and the quality (NaN where none was given)."""

    losses: list[float] = field(default_factory=list)
    qualities: list[float] = field(default_factory=list)
    best_epoch: int = -1
    steps: int = 0
    seconds: float = 0.0  # of training, over all starts

    @property
    def stale_epochs(self) -> int:
        return len(self.losses) - 1 - self.best_epoch if self.best_epoch >= 0 else 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process stands among those that train together."""

    rank: int
    world: int
    device: torch.device


@contextmanager
def place() -> Iterator[Place]:
    """This process's place: alone, or what `torchrun` set in the environment (NCCL on GPUs, gloo on CPUs).

    May be nested: only the outermost opens and closes the process group.
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    opened = "WORLD_SIZE" in os.environ and not dist.is_initialized()
    if opened:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S))
    try:
        inside = dist.is_initialized()
        yield Place(dist.get_rank() if inside else 0, dist.get_world_size() if inside else 1, device)
    finally:
        if opened:
            dist.destroy_process_group()


def seed_everything(*parts: int) -> None:
    """Seed torch on every device from a tuple of non-negative numbers, and let sums of several threads be added in one
    order: without that two threads never train the same model twice. On a GPU, what has no such order only warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1))


def shuffled(n: int, size: int, seed: int, epoch: int, rank: int = 0, world: int = 1) -> list[npt.NDArray[np.int64]]:
    """Rows 0..n-1 in an order of their own per (seed, epoch), cut into batches of at most `size` for this rank.

    Every rank gets as many batches of as many rows: the first rows fill up the last round.
    """
    order = np.random.default_rng((seed, epoch)).permutation(n)
    if world > 1:
        order = np.resize(order, math.ceil(n / world) * world)[rank::world]
    return [order[start : start + size] for start in range(0, len(order), size)]


def fit(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    settings: LoopSettings,
    *,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
    title: str = "training",
) -> History:
    """Train `model` in place; it ends in eval mode with the weights of the best epoch (the last, without a quality).

    `loss(model, batch)` calls the model once, through `model(...)`, so that gradients meet across processes.
    """
    with place() as here:
        model.to(here.device)
        run = _Run(model, settings, here)
        run.resume()
        task = progress.add_task(title, total=settings.epochs, completed=run.epoch) if progress else None
        while run.epoch < settings.epochs and not run.finished:
            _one_epoch(run, batches, loss, progress, task)
            run.close_epoch(on_epoch)
            if progress is not None and task is not None:
                progress.update(task, completed=run.epoch, description=run.describe(title))
        if progress is not None and task is not None:
            progress.update(task, completed=settings.epochs)
        return run.end()


def _one_epoch(run: _Run, batches: Batches, loss: Loss, progress: Progress | None, task: TaskID | None) -> None:
    wrapped = run.wrapped.train()
    epoch = batches(run.epoch, run.here.rank, run.here.world)
    total = length_hint(epoch, 0) or run.steps_per_epoch
    for step, batch in enumerate(islice(epoch, run.settings.most_steps or None)):
        if step < run.step:  # done before the process was killed
            continue
        on_device = {name: tensor.to(run.here.device, non_blocking=True) for name, tensor in batch.items()}
        seed_everything(run.settings.seed, run.epoch, step, run.here.rank)
        with torch.autocast(run.here.device.type, torch.bfloat16, enabled=run.settings.halves(run.here.device)):
            value = loss(wrapped, on_device)
        run.descend(value)
        if progress is not None and task is not None and total:
            progress.update(task, completed=run.epoch + min(run.step / total, 1.0))


class _Run:
    """The state of one run: everything a checkpoint holds."""

    def __init__(self, model: nn.Module, settings: LoopSettings, here: Place) -> None:
        self.model, self.settings, self.here = model, settings, here
        # Buffers are the catalogue, equal everywhere and never written: sending them with every step is all cost.
        self.wrapped = DistributedDataParallel(model, broadcast_buffers=False) if here.world > 1 else model
        if settings.compiled:  # a wrapper, too: what is saved and handed back is `model`, under its own names
            self.wrapped = torch.compile(self.wrapped)
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )
        self.epoch = self.step = self.steps_per_epoch = 0
        self.loss_sum = torch.zeros((), device=here.device, dtype=torch.float64)
        self.history = History()
        self.best: Mapping[str, Tensor] = {}
        self._saved_at = self._resumed_at = time.monotonic()

    @property
    def finished(self) -> bool:
        return 0 < self.settings.patience <= self.history.stale_epochs

    def rate(self) -> float:
        """The learning rate of this step: warm-up by step, cosine by epoch."""
        s = self.settings
        cosine = 0.5 + 0.5 * math.cos(math.pi * self.epoch / max(s.epochs - 1, 1))
        warm = min(1.0, (self.history.steps + 1) / s.warmup_steps) if s.warmup_steps else 1.0
        return s.lr * warm * (s.final_lr + (1.0 - s.final_lr) * cosine)

    def descend(self, value: Tensor) -> None:
        """One optimiser step from the loss of one batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()
        self.loss_sum += value.detach()
        self.step += 1
        self.history.steps += 1
        if time.monotonic() - self._saved_at > self.settings.checkpoint_every_s:
            self.save()

    def close_epoch(self, on_epoch: OnEpoch | None) -> None:
        """Book the epoch, measure its quality, keep the best weights, save."""
        mean = self.loss_sum / max(self.step, 1)
        if self.here.world > 1:
            dist.all_reduce(mean)
            mean /= self.here.world
        if not math.isfinite(float(mean)):
            raise FloatingPointError(f"the loss of epoch {self.epoch + 1} is {float(mean)}; lower the learning rate")
        quality = self._quality(on_epoch)
        seen = [q for q in self.history.qualities if not math.isnan(q)]
        if not math.isnan(quality) and quality > max(seen, default=-math.inf):
            self.history.best_epoch = self.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.history.losses.append(float(mean))
        self.history.qualities.append(quality)
        self.steps_per_epoch, self.step = self.step, 0
        self.epoch += 1
        self.loss_sum.zero_()
        self.save()

    def _quality(self, on_epoch: OnEpoch | None) -> float:
        measured = None
        if on_epoch is not None and self.here.rank == 0:
            self.model.eval()
            with torch.no_grad():
                measured = on_epoch(self.epoch, self.model)
        quality = torch.tensor(math.nan if measured is None else measured, device=self.here.device, dtype=torch.float64)
        if self.here.world > 1:
            dist.broadcast(quality, 0)
        return float(quality)

    def describe(self, title: str) -> str:
        loss, quality = self.history.losses[-1], self.history.qualities[-1]
        return f"{title}: loss {loss:.4f}" + ("" if math.isnan(quality) else f", quality {quality:.4f}")

    def end(self) -> History:
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()
        if self.here.world > 1:
            time.sleep(SETTLE_S)
        self._book_time()
        return self.history

    def _book_time(self) -> None:
        now = time.monotonic()
        self.history.seconds += now - self._resumed_at
        self._resumed_at = self._saved_at = now

    def save(self) -> None:
        """Replace the checkpoint, on rank 0."""
        self._book_time()
        if self.settings.checkpoint is not None and self.here.rank == 0:
            write_checkpoint(self.settings.checkpoint, self._document())

    def _document(self) -> dict[str, Any]:
        return {
            "identity": self.settings.identity(self.here.world),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": dict(self.best),
            "epoch": self.epoch,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "loss_sum": self.loss_sum,
            "history": {
                "losses": self.history.losses,
                "qualities": self.history.qualities,
                "best_epoch": self.history.best_epoch,
                "steps": self.history.steps,
                "seconds": self.history.seconds,
            },
        }

    def resume(self) -> None:
        """Continue from the checkpoint where there is one of this very run."""
        path = self.settings.checkpoint
        found = read_checkpoint(path, self.here.device) if path is not None else None
        if found is None or found["identity"] != self.settings.identity(self.here.world):
            return
        self.model.load_state_dict(found["model"])
        self.optimiser.load_state_dict(found["optimiser"])
        self.best = found["best"]
        self.epoch, self.step, self.steps_per_epoch = found["epoch"], found["step"], found["steps_per_epoch"]
        self.loss_sum = found["loss_sum"]
        self.history = History(**found["history"])


def write_checkpoint(path: Path, document: Mapping[str, Any]) -> None:
    """Write beside, flush to disk, rename: a reader sees the old checkpoint or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as stream:
        torch.save(document, stream)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint's tensors and plain values, or None where there is none. Nothing is unpickled."""
    if not path.exists():
        return None
    return dict(torch.load(path, map_location=device, weights_only=True))
