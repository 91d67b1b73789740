"""The ranker as four ONNX files (docs/bundles.md): user_net, item_net, cross, and plain, which is the same in one piece.

Calibration and the scales of candidate numbers are folded into the weights. Per candidate, `cross` is one batched
matrix product for the dots and three Gemms; the person's and the item's parts enter the first as its bias.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from training.models.dlrm import EMBEDDING, HIDDEN, Dlrm, Side, starts
from training.models.graph import Graph


def export(model: Dlrm, path: Path) -> None:
    """Write the four graphs of a model into the folder `path`."""
    write_user(model, path / "user_net.onnx")
    write_item(model, path / "item_net.onnx")
    write_cross(model, path / "cross.onnx")
    write_plain(model, path / "plain.onnx")


def write_user(model: Dlrm, file: Path) -> None:
    g = Graph("user_net")
    vectors, dense = user_vectors(g, model, "ids", "numbers", name="vectors")
    own = g.op("Concat", dense, dots(g, vectors, model.U, array(model.user_pairs)), axis=1)
    weight = array(model.first.weight)[:, array(model.user_columns)]
    g.linear(own, weight, g.constant(array(model.user_bias())), name="hidden")
    outputs = {"vectors": ("b", model.U, EMBEDDING), "hidden": ("b", HIDDEN)}
    g.save(file, {"ids": ids_of(model.user_side, "b"), "numbers": numbers_of(model.user_side, "b")}, outputs)


def write_item(model: Dlrm, file: Path) -> None:
    g = Graph("item_net")
    vectors = embedded(g, model, model.item_side, "ids", name="vectors")
    numbers = clipped(g, model.item_side, "numbers")
    own = g.op("Concat", dots(g, vectors, model.I, array(model.item_pairs)), numbers, axis=1)
    g.linear(own, array(model.first.weight)[:, array(model.item_columns)], name="hidden")
    outputs = {"vectors": ("n", model.I, EMBEDDING), "hidden": ("n", HIDDEN)}
    g.save(file, {"ids": ids_of(model.item_side, "n"), "numbers": numbers_of(model.item_side, "n")}, outputs)


def write_cross(model: Dlrm, file: Path) -> None:
    g = Graph("cross")
    candidates = len(model.candidate_low)
    people = g.op("Transpose", "user_vectors", perm=[0, 2, 1])
    met = g.op("MatMul", g.op("Reshape", "item_vectors", g.shape(0, -1, EMBEDDING)), people)
    place = g.clip("candidates", array(model.candidate_low), array(model.candidate_high))
    both = [g.op("Reshape", met, g.shape(-1, model.I * model.U)), g.op("Reshape", place, g.shape(-1, candidates))]
    sides = g.op("Add", "item_hidden", g.op("Unsqueeze", "user_hidden", g.shape(1)))
    sides = g.op("Reshape", sides, g.shape(-1, HIDDEN))
    hidden = g.linear(g.op("Concat", *both, axis=1), array(model.cross_weight()), sides)
    b_n = g.op("Shape", "candidates", end=2)
    g.op("Reshape", top(g, model, hidden), g.op("Concat", b_n, g.shape(3), axis=0), name="heads")
    inputs = {
        "user_vectors": ("float32", ("b", model.U, EMBEDDING)),
        "user_hidden": ("float32", ("b", HIDDEN)),
        "item_vectors": ("float32", ("b", "n", model.I, EMBEDDING)),
        "item_hidden": ("float32", ("b", "n", HIDDEN)),
        "candidates": ("float32", ("b", "n", candidates)),
    }
    g.save(file, inputs, {"heads": ("b", "n", 3)})


def write_plain(model: Dlrm, file: Path) -> None:
    g = Graph("plain")
    people, dense = user_vectors(g, model, "user_ids", "user_numbers")
    vectors = g.op("Concat", people, embedded(g, model, model.item_side, "item_ids"), axis=1)
    met = dots(g, vectors, model.U + model.I, array(model.pairs))
    place = g.clip("candidates", array(model.candidate_low), array(model.candidate_high))
    inputs = g.op("Concat", dense, met, clipped(g, model.item_side, "item_numbers"), place, axis=1)
    weight = array(model.first.weight).copy()
    weight[:, array(model.place)] /= array(model.candidate_std)
    top(g, model, g.linear(inputs, weight, g.constant(array(model.user_bias()))), name="heads")
    shapes = {
        "user_ids": ids_of(model.user_side, "n"),
        "user_numbers": numbers_of(model.user_side, "n"),
        "item_ids": ids_of(model.item_side, "n"),
        "item_numbers": numbers_of(model.item_side, "n"),
        "candidates": ("float32", ("n", len(model.candidate_low))),
    }
    g.save(file, shapes, {"heads": ("n", 3)})


# ---------------------------------------------------------------------------------------------- pieces


def array(tensor: Tensor) -> Any:
    found: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return found


def ids_of(side: Side, rows: str) -> tuple[str, tuple[int | str, ...]]:
    return "int64", (rows, len(side.columns))


def numbers_of(side: Side, rows: str) -> tuple[str, tuple[int | str, ...]]:
    return "float32", (rows, len(side.low))


def clipped(g: Graph, side: Side, numbers: str) -> str:
    return g.clip(numbers, array(side.low), array(side.high))


def embedded(g: Graph, model: Dlrm, side: Side, ids: str, name: str = "") -> str:
    """(m, W) → (m, W, 64) from a table of the vocabularies that this side reads."""
    read = {v: vocabulary for v, vocabulary in model.vocabularies.items() if v in side.columns}
    of_all, of_side, table = starts(model.vocabularies), starts(read), array(model.table.weight)
    rows = np.concatenate([table[of_all[v] : of_all[v] + len(read[v])] for v in read])
    places = g.constant([of_side[v] for v in side.columns], np.int64)
    return g.op("Gather", g.constant(rows), g.op("Add", ids, places), axis=0, name=name)


def user_vectors(g: Graph, model: Dlrm, ids: str, numbers: str, name: str = "") -> tuple[str, str]:
    """Vectors (m, U, 64), and the last of them, the dense vector, as (m, 64)."""
    dense = clipped(g, model.user_side, numbers)
    for layer in model.bottom:
        linear = isinstance(layer, nn.Linear)
        dense = g.linear(dense, array(layer.weight), g.constant(array(layer.bias))) if linear else g.op("Relu", dense)
    rows = [embedded(g, model, model.user_side, ids), g.op("Unsqueeze", dense, g.shape(1))]
    return g.op("Concat", *rows, axis=1, name=name), dense


def dots(g: Graph, vectors: str, n: int, pairs: npt.NDArray[np.int64]) -> str:
    """(m, n, 64) → (m, P): each pair's dot, picked from all n · n."""
    every = g.op("MatMul", vectors, g.op("Transpose", vectors, perm=[0, 2, 1]))
    return g.op(
        "Gather", g.op("Reshape", every, g.shape(-1, n * n)), g.constant(pairs[0] * n + pairs[1], np.int64), axis=1
    )


def top(g: Graph, model: Dlrm, hidden: str, name: str = "") -> str:
    """First hidden layer before its ReLU (m, 256) → calibrated heads (m, 3)."""
    slopes, shifts = array(model.slopes), array(model.shifts)
    hidden = g.op("Relu", hidden)
    hidden = g.op("Relu", g.linear(hidden, array(model.second.weight), g.constant(array(model.second.bias))))
    bias = g.constant(array(model.heads.bias) * slopes + shifts)
    logits = g.linear(hidden, array(model.heads.weight) * slopes[:, None], bias)
    odds = g.op("Sigmoid", g.columns(logits, 0, 2, axis=1))
    click = g.columns(odds, 0, 1, axis=1)
    worth = g.op("Softplus", g.columns(logits, 2, 3, axis=1))
    given = g.op(
        "Concat", g.columns(odds, 1, 2, axis=1), g.op("Mul", worth, g.constant(array(model.value_scale))), axis=1
    )
    return g.op("Concat", click, g.op("Mul", click, given), axis=1, name=name)
