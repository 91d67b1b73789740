"""The ranker DeepFM (Guo et al., 2017, arXiv:1703.04247): a factorisation machine and a deep network over one table.

Every field is a vector: a category its embedding, a number x its own vector times x. The machine adds the dots of all
pairs of vectors and first-order weights to what the deep network says. All pairs together are ½ (|Σ v|² − Σ |v|²)
(Rendle, 2010), so the state of a part is its Σ v, and what it adds to each logit by itself.

Not as in the paper: three heads read one machine, each with a weight of its own, and first-order weights are read off
the embeddings (a linear map of them), not kept in a second table. Shapes as in `training.models.summed`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.graph import Graph
from training.models.ranker import EMBEDDING, TOP, Inputs, Regularisation, Top
from training.models.ranker_graphs import array
from training.models.summed import Part, SummedRanker


class DeepFM(SummedRanker):
    """A state is Σ v (64), then what a part adds to each logit by itself: first order, and − ½ Σ |v|²."""

    name = "deepfm"

    def __init__(self, inputs: Inputs, regularisation: Regularisation, top: Top = TOP) -> None:
        super().__init__(inputs, regularisation, top)
        self.number_vectors = nn.Parameter(torch.randn(self.all_numbers, EMBEDDING) * regularisation.init_std)
        self.order_one = nn.Parameter(torch.zeros(3, self.width))
        self.order_two = nn.Parameter(torch.full((3,), EMBEDDING**-0.5))  # of each head

    @property
    def state_size(self) -> int:
        return EMBEDDING + 3

    def state(self, part: Part, x: Tensor) -> Tensor:
        ids, numbers = x[:, : part.ids * EMBEDDING], x[:, part.ids * EMBEDDING :]
        vectors = self.number_vectors[part.numbers]
        total = ids.unflatten(1, (part.ids, EMBEDDING)).sum(1) + numbers @ vectors
        squares = (ids * ids).sum(1) + (numbers * numbers) @ (vectors * vectors).sum(1)
        alone = F.linear(x, self.order_one[:, part.columns]) - squares.unsqueeze(1) * self.order_two / 2
        return torch.cat([total, alone], dim=1)

    def finish(self, state: Tensor) -> Tensor:
        total, alone = state[:, :EMBEDDING], state[:, EMBEDDING:]
        return alone + (total * total).sum(1, keepdim=True) * self.order_two / 2

    def textbook(self, x: Tensor) -> Tensor:
        vectors = torch.cat([self.vectors(part, x[:, part.columns]) for part in self.parts], dim=1)
        met = vectors @ vectors.transpose(1, 2)
        pairs = met.triu(1).sum((1, 2))
        return F.linear(x, self.order_one) + pairs.unsqueeze(1) * self.order_two

    def vectors(self, part: Part, x: Tensor) -> Tensor:
        """(m, fields of the part, 64): each field's vector."""
        ids, numbers = x[:, : part.ids * EMBEDDING], x[:, part.ids * EMBEDDING :]
        found = ids.unflatten(1, (part.ids, EMBEDDING)), numbers.unsqueeze(2) * self.number_vectors[part.numbers]
        return torch.cat(found, dim=1)

    # ------------------------------------------------------------------------------------------ graphs

    def state_nodes(self, g: Graph, part: Part, x: str) -> str:
        vectors, order_two = array(self.number_vectors)[part.numbers], array(self.order_two)
        numbers = g.columns(x, part.ids * EMBEDDING, part.columns.stop - part.columns.start, axis=1)
        total = g.op("MatMul", numbers, g.constant(vectors))
        own = (vectors * vectors).sum(1, keepdims=True) * -order_two / 2  # (D, 3)
        alone = g.op("MatMul", g.op("Mul", numbers, numbers), g.constant(own))
        if part.ids:
            ids = g.columns(x, 0, part.ids * EMBEDDING, axis=1)
            rows = g.op("Reshape", ids, g.shape(-1, part.ids, EMBEDDING))
            total = g.op("Add", g.op("ReduceSum", rows, g.shape(1), keepdims=0), total)
            squares = g.op("Mul", g.op("ReduceSumSquare", ids, g.shape(1)), g.constant(-order_two / 2))
            alone = g.op("Add", squares, alone)
        alone = g.linear(x, array(self.order_one)[:, part.columns], alone)
        return g.op("Concat", total, alone, axis=1)

    def finish_nodes(self, g: Graph, state: str) -> str:
        total, alone = g.columns(state, 0, EMBEDDING, axis=1), g.columns(state, EMBEDDING, EMBEDDING + 3, axis=1)
        squares = g.op("ReduceSumSquare", total, g.shape(1))
        return g.op("Add", alone, g.op("Mul", squares, g.constant(array(self.order_two) / 2)))

    def textbook_nodes(self, g: Graph, x: str) -> str:
        fields, found = 0, []
        for part in self.parts:
            start, middle = part.columns.start, part.columns.start + part.ids * EMBEDDING
            if part.ids:
                found.append(g.op("Reshape", g.columns(x, start, middle, axis=1), g.shape(-1, part.ids, EMBEDDING)))
            numbers = g.op("Unsqueeze", g.columns(x, middle, part.columns.stop, axis=1), g.shape(2))
            found.append(g.op("Mul", numbers, g.constant(array(self.number_vectors)[part.numbers])))
            fields += part.ids + part.numbers.stop - part.numbers.start
        vectors = g.op("Concat", *found, axis=1)
        met = g.op("MatMul", vectors, g.op("Transpose", vectors, perm=[0, 2, 1]))
        pairs = g.op("Mul", met, g.constant(np.triu(np.ones((fields, fields), np.float32), 1)))
        summed = g.op("ReduceSum", pairs, g.shape(1, 2), keepdims=0)
        both = g.op("Mul", g.op("Unsqueeze", summed, g.shape(1)), g.constant(array(self.order_two)))
        return g.op("Add", g.linear(x, array(self.order_one)), both)
