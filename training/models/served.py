"""The two smallest towers, and how graphs of towers are drawn: an item's vector looked up by its id, and a query that is
always the same.

A module that draws its graph node by node (training/models/graph.py) is exported in milliseconds where tracing it takes
seconds; training.export holds both against torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.models.graph import Graph
from winnow.encoding import Vocabulary
from winnow.types import HISTORY, Floats

FLOAT = 1  # ONNX's number for float32


def save_user_tower(g: Graph, file: Path, dim: int, width: int = 1) -> None:
    """Write a graph whose output is `vector`, with the inputs of a bundle's user tower."""
    inputs = {
        "ids": ("int64", ("b", width)),
        "history": ("float32", ("b", HISTORY, dim)),
        "history_types": ("int64", ("b", HISTORY)),
        "history_values": ("float32", ("b", HISTORY)),
    }
    g.save(file, inputs, {"vector": ("b", dim)})


def known_in(g: Graph) -> str:
    """(b, 50, 1) 1 where the history has an act, 0 at padding."""
    known = g.op("Greater", "history_types", g.constant(0, np.int64))
    return g.op("Unsqueeze", g.op("Cast", known, to=FLOAT), g.shape(-1))


def sum_over(g: Graph, x: str, axis: int, keep: bool = False) -> str:
    return g.op("ReduceSum", x, g.shape(axis), keepdims=int(keep))


class LookUp(nn.Module):
    """`ids` (n, 1) rows of the item ids' vocabulary, whose values are in the order of `vectors` (N, d) → (n, d); the zero
    vector for ids that it does not know."""

    def __init__(self, vocabulary: Vocabulary, vectors: Floats, columns: int = 1) -> None:
        super().__init__()
        self.columns = columns  # of `numbers`, which it ignores
        unknown = np.zeros((len(vocabulary) - len(vectors), vectors.shape[1]), np.float32)
        self.register_buffer("table", torch.from_numpy(np.concatenate([unknown, vectors])))

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        found: Tensor = self.table[ids[:, 0]]
        return found

    def draw(self, file: Path) -> None:
        g = Graph("item_tower")
        row = g.op("Squeeze", g.columns("ids", 0, 1, axis=1), g.shape(1))
        g.op("Gather", g.constant(self.table.numpy()), row, name="vector", axis=0)
        inputs = {"ids": ("int64", ("n", 1)), "numbers": ("float32", ("n", self.columns))}
        g.save(file, inputs, {"vector": ("n", self.table.shape[1])})


class Always(nn.Module):
    """The same number in every dimension of every query: 1 for a model that knows no people, 0 for one that serves no
    vectors."""

    def __init__(self, value: float, dim: int = 1, width: int = 1) -> None:
        super().__init__()
        self.value, self.dim, self.width = value, dim, width

    def forward(self, ids: Tensor, history: Tensor, history_types: Tensor, history_values: Tensor) -> Tensor:
        return torch.full((len(ids), self.dim), self.value)

    def draw(self, file: Path) -> None:
        g = Graph("user_tower")
        people = g.op("Slice", g.op("Shape", "ids"), g.shape(0), g.shape(1))
        wanted = g.op("Concat", people, g.shape(self.dim), axis=0)
        g.op("Expand", g.constant(np.full((1, 1), self.value)), wanted, name="vector")
        save_user_tower(g, file, self.dim, self.width)


class KnownOrNew(nn.Module):
    """A look-up by id, which is the first column of `ids`, and for an id that it does not know what another module makes
    of the other columns and the numbers."""

    def __init__(self, known: LookUp, new: nn.Module, unknown: int) -> None:
        super().__init__()
        self.known, self.new = known, new
        self.unknown = unknown  # vocabulary rows below it are no known id

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        made = self.new(ids[:, 1:], numbers)
        return torch.where(ids[:, :1] >= self.unknown, self.known(ids, numbers), made)
