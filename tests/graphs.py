"""ONNX graphs with the signatures of docs/bundles.md and random weights, built with onnx.helper: quick, no torch.

They compute what the trained ones compute in kind: towers that mean-pool embeddings, a DLRM split where user and item
meet, and the same DLRM in one piece.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from winnow.encoding import Schema
from winnow.types import HISTORY

DIM, EMBEDDING, HIDDEN = 128, 64, 512


@dataclass
class Graph:
    """An ONNX graph under construction: `op` adds a node and returns its output's name."""

    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, value: npt.ArrayLike, dtype: Any = np.float32) -> str:
        name = f"w_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def random(self, *shape: int) -> str:
        scale = 1.0 / math.sqrt(shape[0])
        return self.weight(self.rng.standard_normal(shape, np.float32) * scale)

    def shape(self, *sizes: int) -> str:
        return self.weight(np.asarray(sizes), np.int64)

    def linear(self, x: str, rows: int, columns: int, name: str = "") -> str:
        return self.op("Add", self.op("MatMul", x, self.random(rows, columns)), self.random(columns), name=name)

    def embed(self, ids: str, schema: Schema, dim: int) -> str:
        """`ids` (n, W) → (n, W, dim); features of one vocabulary share its table."""
        offset, offsets, start = 0, [], {}
        for feature in schema.categorical:
            if feature.vocabulary not in start:
                start[feature.vocabulary] = offset
                offset += len(schema.vocabularies[feature.vocabulary])
            offsets += [start[feature.vocabulary]] * feature.slots
        table = self.weight(self.rng.standard_normal((max(offset, 1), dim), np.float32))
        return self.op("Gather", table, self.op("Add", ids, self.weight(offsets, np.int64)), axis=0)

    def save(self, file: Path, inputs: Mapping[str, tuple[int, Sequence[Any]]], outputs: Mapping[str, int]) -> None:
        graph = helper.make_graph(
            self.nodes,
            file.stem,
            [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, str(file))


IDS, NUMBERS = TensorProto.INT64, TensorProto.FLOAT


def unit(g: Graph, x: str, name: str) -> str:
    return g.op("LpNormalization", x, axis=-1, p=2, name=name)


def item_tower(file: Path, schema: Schema, rng: np.random.Generator) -> None:
    g = Graph(rng)
    pooled = g.op("ReduceMean", g.embed("ids", schema, DIM), g.shape(1), keepdims=0)
    dense = g.linear("numbers", len(schema.numeric), DIM)
    unit(g, g.op("Add", pooled, g.op("Mul", dense, g.weight(0.1))), "vector")
    g.save(file, {"ids": (IDS, ("n", schema.width)), "numbers": (NUMBERS, ("n", len(schema.numeric)))}, {"vector": 2})


def user_tower(file: Path, schema: Schema, rng: np.random.Generator) -> None:
    """Newer acts count more, rated ones a little more; the person's own embedding is added."""
    g = Graph(rng)
    on = g.op("Cast", g.op("Greater", "history_types", g.weight(0, np.int64)), to=TensorProto.FLOAT)
    newer = g.weight(np.exp((np.arange(HISTORY) - HISTORY) / 10.0))
    weight = g.op("Mul", g.op("Mul", on, newer), g.op("Exp", g.op("Mul", "history_values", g.weight(0.1))))
    history = g.op("ReduceSum", g.op("Mul", g.op("Unsqueeze", weight, g.shape(2)), "history"), g.shape(1), keepdims=0)
    person = g.op("ReduceMean", g.embed("ids", schema, DIM), g.shape(1), keepdims=0)
    both = g.op("Add", history, g.op("Mul", person, g.weight(0.1)))
    mixed = g.linear(g.op("Relu", g.linear(both, DIM, 2 * DIM)), 2 * DIM, DIM)
    unit(g, g.op("Add", both, g.op("Mul", mixed, g.weight(0.05))), "vector")
    inputs = {
        "ids": (IDS, ("b", schema.width)),
        "history": (NUMBERS, ("b", HISTORY, DIM)),
        "history_types": (IDS, ("b", HISTORY)),
        "history_values": (NUMBERS, ("b", HISTORY)),
    }
    g.save(file, inputs, {"vector": 2})


@dataclass(frozen=True)
class Ranker:
    """The split DLRM as pieces that write into any graph, so that the three parts and the plain one share weights."""

    user: Schema
    item: Schema
    candidates: int
    seed: int

    def _rng(self, part: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, part))

    def side(self, g: Graph, part: int, schema: Schema, ids: str, numbers: str, tag: str = "") -> tuple[str, str]:
        """One side: (n, W), (n, D) → vectors (n, W + 1, 64), hidden (n, 512)."""
        g.rng = self._rng(part)
        dense = g.op("Relu", g.linear(numbers, len(schema.numeric), EMBEDDING))
        rows = [g.embed(ids, schema, EMBEDDING), g.op("Unsqueeze", dense, g.shape(1))]
        vectors = g.op("Concat", *rows, axis=1, name=f"{tag}vectors")
        flat = g.op("Reshape", vectors, g.shape(0, (schema.width + 1) * EMBEDDING))
        return vectors, g.linear(flat, (schema.width + 1) * EMBEDDING, HIDDEN, name=f"{tag}hidden")

    def meet(self, g: Graph, user: tuple[str, str], item: tuple[str, str], candidates: str) -> str:
        """Both sides: vectors (b, U, 64), (b, n, I, 64), hidden (b, 512), (b, n, 512), (b, n, C) → heads (b, n, 3)."""
        g.rng = self._rng(3)
        pairs = (self.user.width + 1) * (self.item.width + 1)
        b_n = g.op("Slice", g.op("Shape", item[0]), g.shape(0), g.shape(2))
        b = g.op("Slice", b_n, g.shape(0), g.shape(1))
        items = g.op("Reshape", item[0], g.op("Concat", b, g.shape(-1, EMBEDDING), axis=0))
        dots = g.op("MatMul", items, g.op("Transpose", user[0], perm=[0, 2, 1]))
        dots = g.op("Reshape", dots, g.op("Concat", b_n, g.shape(pairs), axis=0))
        dots = g.op("Mul", dots, g.weight(1 / EMBEDDING))
        place = g.op("Mul", g.linear(candidates, self.candidates, HIDDEN), g.weight(0.1))
        met = g.op("Add", g.linear(dots, pairs, HIDDEN), place)
        sides = g.op("Add", g.op("Unsqueeze", user[1], g.shape(1)), item[1])
        top = g.op("Relu", g.linear(g.op("Relu", g.op("Add", met, sides)), HIDDEN, 256))
        logits = g.linear(top, 256, 3)
        odds = g.op("Sigmoid", g.op("Slice", logits, g.shape(0), g.shape(2), g.shape(2)))
        value = g.op("Softplus", g.op("Slice", logits, g.shape(2), g.shape(3), g.shape(2)))
        return g.op("Concat", odds, value, axis=2, name="heads")

    def save(self, path: Path) -> None:
        for part, (name, schema) in enumerate((("user_net", self.user), ("item_net", self.item)), start=1):
            g = Graph(self._rng(part))
            self.side(g, part, schema, "ids", "numbers")
            shapes = {"ids": (IDS, ("n", schema.width)), "numbers": (NUMBERS, ("n", len(schema.numeric)))}
            g.save(path / f"{name}.onnx", shapes, {"vectors": 3, "hidden": 2})
        g = Graph(self._rng(3))
        self.meet(g, ("user_vectors", "user_hidden"), ("item_vectors", "item_hidden"), "candidates")
        shapes = {
            "user_vectors": (NUMBERS, ("b", self.user.width + 1, EMBEDDING)),
            "user_hidden": (NUMBERS, ("b", HIDDEN)),
            "item_vectors": (NUMBERS, ("b", "n", self.item.width + 1, EMBEDDING)),
            "item_hidden": (NUMBERS, ("b", "n", HIDDEN)),
            "candidates": (NUMBERS, ("b", "n", self.candidates)),
        }
        g.save(path / "cross.onnx", shapes, {"heads": 3})
        self._save_plain(path / "plain.onnx")

    def _save_plain(self, file: Path) -> None:
        """Every row its own person and its own item."""
        g = Graph(self._rng(1))
        user = self.side(g, 1, self.user, "user_ids", "user_numbers", "user_")
        vectors, hidden = self.side(g, 2, self.item, "item_ids", "item_numbers", "item_")
        item = g.op("Unsqueeze", vectors, g.shape(1)), g.op("Unsqueeze", hidden, g.shape(1))
        heads = self.meet(g, user, item, g.op("Unsqueeze", "candidates", g.shape(1)))
        g.nodes[-1].output[0] = "met"
        assert heads == "heads"
        g.op("Squeeze", "met", g.shape(1), name="heads")
        shapes = {
            "user_ids": (IDS, ("n", self.user.width)),
            "user_numbers": (NUMBERS, ("n", len(self.user.numeric))),
            "item_ids": (IDS, ("n", self.item.width)),
            "item_numbers": (NUMBERS, ("n", len(self.item.numeric))),
            "candidates": (NUMBERS, ("n", self.candidates)),
        }
        g.save(file, shapes, {"heads": 2})
