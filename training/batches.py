"""The batches of a training: sequences cut into windows, every act a target once, as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.loop import shuffled
from training.sequences import Sequences
from winnow.features import Ints


def cut(starts: Ints, stride: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Windows (first, last) of at most `stride` targets that cover every act once, shifted at random per person."""
    sizes = np.diff(starts)
    offset = rng.integers(1, stride + 1, len(sizes))
    windows = np.where(sizes > 0, 1 + np.maximum(sizes - offset + stride - 1, 0) // stride, 0)
    person = np.repeat(np.arange(len(sizes)), windows)
    number = np.arange(len(person)) - np.repeat(np.cumsum(windows) - windows, windows)
    last = np.minimum(starts[person] + offset[person] + number * stride, starts[person + 1])
    first = np.maximum(starts[person], starts[person] + offset[person] + (number - 1) * stride)
    return first, last


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of an epoch for `training.loop.fit`: `size` windows each, every act a target once."""

    sequences: Sequences
    size: int
    stride: int
    seed: int

    def __call__(self, epoch: int, rank: int, world: int) -> EpochBatches:
        first, last = cut(self.sequences.starts, self.stride, np.random.default_rng((self.seed, epoch, 1)))
        rows = shuffled(len(first), self.size, self.seed, epoch, rank, world)
        return EpochBatches(self.sequences, first, last, rows)


@dataclass(frozen=True)
class EpochBatches:
    sequences: Sequences
    first: Ints
    last: Ints
    rows: list[Ints]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for rows in self.rows:
            yield tensors(self.sequences.windows(self.first[rows], self.last[rows]))


def tensors(columns: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
