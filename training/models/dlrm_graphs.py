"""DLRM as four ONNX files (docs/bundles.md).

Per candidate, `cross` is one batched matrix product for the dots and three Gemms; the person's and the item's parts
enter the first as its bias.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from training.models.dlrm import Dlrm
from training.models.graph import Graph
from training.models.ranker import EMBEDDING
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
    save_side(g, model, model.user_side, "b", file)


def write_item(model: Dlrm, file: Path) -> None:
    g = Graph("item_net")
    vectors = embedded(g, model, model.item_side, "ids", name="vectors")
    numbers = clipped(g, model.item_side, "numbers")
    own = g.op("Concat", dots(g, vectors, model.I, array(model.item_pairs)), numbers, axis=1)
    g.linear(own, array(model.first.weight)[:, array(model.item_columns)], name="hidden")
    save_side(g, model, model.item_side, "n", file)


def write_cross(model: Dlrm, file: Path) -> None:
    g = Graph("cross")
    people = g.op("Transpose", "user_vectors", perm=[0, 2, 1])
    met = g.op("MatMul", g.op("Reshape", "item_vectors", g.shape(0, -1, EMBEDDING)), people)
    place = g.op("Reshape", clipped_candidates(g, model), g.shape(-1, len(model.candidate_low)))
    both = g.op("Concat", g.op("Reshape", met, g.shape(-1, model.I * model.U)), place, axis=1)
    hidden = g.linear(both, array(model.cross_weight()), met_hidden(g, model))
    save_cross(g, model, top(g, model, hidden), file)


def write_plain(model: Dlrm, file: Path) -> None:
    g = Graph("plain")
    people, dense = user_vectors(g, model, "user_ids", "user_numbers")
    vectors = g.op("Concat", people, embedded(g, model, model.item_side, "item_ids"), axis=1)
    met = dots(g, vectors, model.U + model.I, array(model.pairs))
    place = clipped_candidates(g, model)
    inputs = g.op("Concat", dense, met, clipped(g, model.item_side, "item_numbers"), place, axis=1)
    weight = array(model.first.weight).copy()
    weight[:, array(model.place)] /= array(model.candidate_std)
    hidden = g.linear(inputs, weight, g.constant(array(model.user_bias())))
    save_plain(g, model, top(g, model, hidden), file)


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
