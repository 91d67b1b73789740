"""Rankers that read all fields side by side, and whose interactions need only sums over them (DeepFM, DCN-v2).

The fields of a row are x = (the person's, the item's, the candidate's): embeddings and clipped numbers in one line. A
deep part reads x; what meets explicitly reads a *state*, S numbers that are a sum of what each part of x says, so a
person's state is computed once per request, an item's once per item, and a candidate's costs one small product.
Nothing is approximated: `finish` makes the same logits of the sum that `textbook` makes of x itself.

The ONNX files of both are written here too, by hooks beside those of torch. Shapes as in `training.models.ranker`, with
U = I = 1 vector of E = S numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.graph import Graph
from training.models.ranker import EMBEDDING, TOP, Inputs, Ranker, Regularisation, Side, Top
from training.models.ranker_graphs import (
    array,
    clipped,
    clipped_candidates,
    embedded,
    met_hidden,
    save_cross,
    save_plain,
    save_side,
    top,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of x: `ids` embeddings of 64, then the numbers that are at `numbers` among all numbers."""

    columns: slice
    ids: int
    numbers: slice


class SummedRanker(Ranker):
    """A subclass says what a state is (`state`, `finish`), and the same without one (`textbook`)."""

    def __init__(self, inputs: Inputs, regularisation: Regularisation, top: Top = TOP) -> None:
        super().__init__(inputs, regularisation, top)
        sizes = [(len(side.columns), len(side.low)) for side in (self.user_side, self.item_side)]
        self.parts: list[Part] = []
        width = numbers = 0
        for ids, own in (*sizes, (0, inputs.candidates.shape[1])):
            ends = width + ids * EMBEDDING + own
            self.parts.append(Part(slice(width, ends), ids, slice(numbers, numbers + own)))
            width, numbers = ends, numbers + own
        self.width, self.all_numbers = width, numbers
        self._make_top(width)

    # ------------------------------------------------------------------------------------------ what a subclass says

    @property
    @abstractmethod
    def state_size(self) -> int:
        """S."""

    @abstractmethod
    def state(self, part: Part, x: Tensor) -> Tensor:
        """What one part of x (m, its columns) adds to the state, (m, S)."""

    @abstractmethod
    def finish(self, state: Tensor) -> Tensor:
        """The whole state (m, S) → what interactions add to the logits, (m, 3)."""

    @abstractmethod
    def textbook(self, x: Tensor) -> Tensor:
        """The same (m, 3) from x (m, all columns), as the paper writes it."""

    @abstractmethod
    def state_nodes(self, g: Graph, part: Part, x: str) -> str:
        """`state` in a graph."""

    @abstractmethod
    def finish_nodes(self, g: Graph, state: str) -> str:
        """`finish` in a graph."""

    @abstractmethod
    def textbook_nodes(self, g: Graph, x: str) -> str:
        """`textbook` in a graph."""

    # ------------------------------------------------------------------------------------------ torch

    @property
    def sizes(self) -> dict[str, int]:
        return {"user_vectors": 1, "item_vectors": 1, "embedding": self.state_size, "hidden": self.hidden_width}

    def fields(self, side: Side, ids: Tensor, numbers: Tensor) -> Tensor:
        """(m, W), (m, D) → that side's part of x."""
        return torch.cat([self.embed(side, ids).flatten(1), side.clip(numbers)], dim=1)

    def user(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        x, part = self.fields(self.user_side, ids, numbers), self.parts[0]
        hidden = F.linear(x, self.first.weight[:, part.columns], self.first.bias)
        return self.state(part, x).unsqueeze(1), hidden

    def item(self, ids: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        x, part = self.fields(self.item_side, ids, numbers), self.parts[1]
        return self.state(part, x).unsqueeze(1), F.linear(x, self.first.weight[:, part.columns])

    def cross(
        self,
        user_vectors: Tensor,
        user_hidden: Tensor,
        item_vectors: Tensor,
        item_hidden: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        x, part = self.scaled_candidates(candidates), self.parts[2]
        hidden = F.linear(x, self.first.weight[:, part.columns]) + user_hidden.unsqueeze(1) + item_hidden
        own = self.state(part, x.flatten(0, 1)).unflatten(0, x.shape[:2])
        state = own + user_vectors + item_vectors.squeeze(2)
        met = self.finish(state.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.top(hidden) + met

    def plain(
        self, user_ids: Tensor, user_numbers: Tensor, item_ids: Tensor, item_numbers: Tensor, candidates: Tensor
    ) -> Tensor:
        sides = (self.user_side, user_ids, user_numbers), (self.item_side, item_ids, item_numbers)
        x = torch.cat([*(self.fields(*side) for side in sides), self.scaled_candidates(candidates)], dim=1)
        return self.top(self.first(x)) + self.textbook(x)


# ---------------------------------------------------------------------------------------------- graphs


def export(model: SummedRanker, path: Path) -> None:
    """Write the four graphs of a model into the folder `path`."""
    write_side(model, 0, path / "user_net.onnx")
    write_side(model, 1, path / "item_net.onnx")
    write_cross(model, path / "cross.onnx")
    write_plain(model, path / "plain.onnx")


def write_side(model: SummedRanker, which: int, file: Path) -> None:
    """user_net (0) or item_net (1)."""
    g, part, side = Graph(file.stem), model.parts[which], (model.user_side, model.item_side)[which]
    x = fields_nodes(g, model, side, "ids", "numbers")
    g.op("Reshape", model.state_nodes(g, part, x), g.shape(-1, 1, model.state_size), name="vectors")
    bias = "" if which else g.constant(array(model.first.bias))
    g.linear(x, array(model.first.weight)[:, part.columns], bias, name="hidden")
    save_side(g, model, side, "n" if which else "b", file)


def write_cross(model: SummedRanker, file: Path) -> None:
    g, part = Graph("cross"), model.parts[2]
    x = g.op("Reshape", scaled_nodes(g, model), g.shape(-1, len(model.candidate_low)))
    hidden = g.linear(x, array(model.first.weight)[:, part.columns], met_hidden(g, model))
    sides = g.op("Add", "item_vectors", g.op("Unsqueeze", "user_vectors", g.shape(1)))
    state = g.op("Add", g.op("Reshape", sides, g.shape(-1, model.state_size)), model.state_nodes(g, part, x))
    save_cross(g, model, top(g, model, hidden, model.finish_nodes(g, state)), file)


def write_plain(model: SummedRanker, file: Path) -> None:
    g = Graph("plain")
    user = fields_nodes(g, model, model.user_side, "user_ids", "user_numbers")
    item = fields_nodes(g, model, model.item_side, "item_ids", "item_numbers")
    x = g.op("Concat", user, item, scaled_nodes(g, model), axis=1)
    hidden = g.linear(x, array(model.first.weight), g.constant(array(model.first.bias)))
    save_plain(g, model, top(g, model, hidden, model.textbook_nodes(g, x)), file)


def fields_nodes(g: Graph, model: SummedRanker, side: Side, ids: str, numbers: str) -> str:
    rows = g.op("Reshape", embedded(g, model, side, ids), g.shape(-1, len(side.columns) * EMBEDDING))
    return g.op("Concat", rows, clipped(g, side, numbers), axis=1)


def scaled_nodes(g: Graph, model: SummedRanker) -> str:
    centred = g.op("Sub", clipped_candidates(g, model), g.constant(array(model.candidate_mean)))
    return g.op("Div", centred, g.constant(array(model.candidate_std)))
