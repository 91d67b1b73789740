"""Pieces of every ranker's four ONNX files (docs/bundles.md): user_net, item_net, cross, and plain, which is the same
in one piece. Calibration and the scales of candidate numbers are folded into the weights where they can be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from training.models.graph import Graph
from training.models.ranker import Ranker, Side, starts


def save_side(g: Graph, model: Ranker, side: Side, rows: str, file: Path) -> None:
    """A graph from `ids` and `numbers` of one side to its `vectors` and `hidden`."""
    sizes = model.sizes
    vectors = sizes["user_vectors"] if side is model.user_side else sizes["item_vectors"]
    outputs = {"vectors": (rows, vectors, sizes["embedding"]), "hidden": (rows, sizes["hidden"])}
    g.save(file, {"ids": ids_of(side, rows), "numbers": numbers_of(side, rows)}, outputs)


def save_cross(g: Graph, model: Ranker, logits: str, file: Path) -> None:
    """A graph from what both sides made, and `candidates`, to calibrated `heads`; `logits` are (b · n, 3)."""
    sizes = model.sizes
    b_n = g.op("Shape", "candidates", end=2)
    g.op("Reshape", heads(g, model, logits), g.op("Concat", b_n, g.shape(3), axis=0), name="heads")
    inputs = {
        "user_vectors": ("float32", ("b", sizes["user_vectors"], sizes["embedding"])),
        "user_hidden": ("float32", ("b", sizes["hidden"])),
        "item_vectors": ("float32", ("b", "n", sizes["item_vectors"], sizes["embedding"])),
        "item_hidden": ("float32", ("b", "n", sizes["hidden"])),
        "candidates": ("float32", ("b", "n", len(model.candidate_low))),
    }
    g.save(file, inputs, {"heads": ("b", "n", 3)})


def save_plain(g: Graph, model: Ranker, logits: str, file: Path) -> None:
    """A graph from encoded people, items and `candidates`, row by row, to calibrated `heads`; `logits` are (n, 3)."""
    heads(g, model, logits, name="heads")
    inputs = {
        "user_ids": ids_of(model.user_side, "n"),
        "user_numbers": numbers_of(model.user_side, "n"),
        "item_ids": ids_of(model.item_side, "n"),
        "item_numbers": numbers_of(model.item_side, "n"),
        "candidates": ("float32", ("n", len(model.candidate_low))),
    }
    g.save(file, inputs, {"heads": ("n", 3)})


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


def embedded(g: Graph, model: Ranker, side: Side, ids: str, name: str = "") -> str:
    """(m, W) → (m, W, 64) from a table of the vocabularies that this side reads."""
    read = {v: vocabulary for v, vocabulary in model.vocabularies.items() if v in side.columns}
    of_all, of_side, table = starts(model.vocabularies), starts(read), array(model.table.weight)
    rows = np.concatenate([table[of_all[v] : of_all[v] + len(read[v])] for v in read])
    places = g.constant([of_side[v] for v in side.columns], np.int64)
    return g.op("Gather", g.constant(rows), g.op("Add", ids, places), axis=0, name=name)


def clipped_candidates(g: Graph, model: Ranker) -> str:
    """The graph's input `candidates`, each column within what training saw."""
    return g.clip("candidates", array(model.candidate_low), array(model.candidate_high))


def met_hidden(g: Graph, model: Ranker) -> str:
    """The person's and the items' part of the first layer, (b, n, k) + (b, k), as (b · n, k)."""
    both = g.op("Add", "item_hidden", g.op("Unsqueeze", "user_hidden", g.shape(1)))
    return g.op("Reshape", both, g.shape(-1, model.hidden_width))


def top(g: Graph, model: Ranker, hidden: str, added: str = "") -> str:
    """First hidden layer before its ReLU (m, H) → fair logits (m, 3), but for the bends of their calibration; `added`
    (m, 3) are raw logits from elsewhere."""
    slopes, shifts = array(model.slopes), array(model.shifts)
    hidden = g.op("Relu", hidden)
    hidden = g.op("Relu", g.linear(hidden, array(model.second.weight), g.constant(array(model.second.bias))))
    bias = g.constant(array(model.heads.bias) * slopes + shifts)
    if added:
        bias = g.op("Add", g.op("Mul", added, g.constant(slopes)), bias)
    return g.linear(hidden, array(model.heads.weight) * slopes[:, None], bias)


def heads(g: Graph, model: Ranker, logits: str, name: str = "") -> str:
    """What `top` gives (m, 3) → calibrated heads (m, 3)."""
    if model.knots.shape[1]:
        over = g.op("Relu", g.op("Sub", g.op("Unsqueeze", logits, g.shape(2)), g.constant(array(model.knots))))
        bent = g.op("Mul", over, g.constant(array(model.bends)))
        logits = g.op("Add", logits, g.op("ReduceSum", bent, g.shape(2), keepdims=0))
    odds = g.op("Sigmoid", g.columns(logits, 0, 2, axis=1))
    click = g.columns(odds, 0, 1, axis=1)
    worth = g.op("Softplus", g.columns(logits, 2, 3, axis=1))
    given = g.op(
        "Concat", g.columns(odds, 1, 2, axis=1), g.op("Mul", worth, g.constant(array(model.value_scale))), axis=1
    )
    return g.op("Concat", click, g.op("Mul", click, given), axis=1, name=name)
