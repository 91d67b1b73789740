"""The ONNX files of the two towers, drawn node by node: traced, they take several seconds of every training, and the
exporter several more to import. `training.export` holds them against torch.

Shapes: b people, n items, L = 50 places, Q the newest of them, d a vector's width.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from training.models.graph import Graph
from training.models.served import FLOAT, save_user_tower
from winnow.types import HISTORY

if TYPE_CHECKING:
    from training.models.two_tower import Attention, Block, SummedItemTower, UserTower

BLOCKED = -1e9  # finite: a row of -inf makes softmax NaN
EPSILON = 1e-12  # of torch.nn.functional.normalize


def save_item(tower: SummedItemTower, file: Path) -> None:
    """`ids` (n, W), `numbers` (n, D) → `vector` (n, d)."""
    g = Graph("item_tower")
    x = dense(g, "numbers", tower.numbers)
    for table, columns in zip(tower.tables, tower.columns, strict=True):
        x = g.op("Add", x, mean_of(g, array(table.weight), g.columns("ids", columns.start, columns.stop, axis=1)))
    normalized(g, g.op("Add", x, mixed(g, x, tower.mix)), "vector")
    width, numbers = tower.columns[-1].stop, tower.numbers.in_features
    inputs = {"ids": ("int64", ("n", width)), "numbers": ("float32", ("n", numbers))}
    g.save(file, inputs, {"vector": ("n", tower.numbers.out_features)})


def save_user(tower: UserTower, file: Path) -> None:
    """The inputs of a bundle's user tower → `vector` (b, d), the person after the newest act."""
    g, dim = Graph("user_tower"), tower.enter.in_features
    x = entered(g, tower)
    absent = g.op("Cast", g.op("Equal", "history_types", g.constant(0, np.int64)), to=FLOAT)
    padding = g.op("Mul", g.op("Unsqueeze", absent, g.shape(1, 2)), g.constant(array(tower.others * BLOCKED)))
    blocked = g.op("Add", padding, g.constant(array(tower.causal)))  # (b, 1, L, L)
    for block in tower.blocks:
        x = passed(g, x, blocked, block)
    x = layer_norm(g, x, tower.last)
    newest = g.columns(x, HISTORY - 1, HISTORY, axis=1)
    pooled = attended(g, newest, x, g.columns(blocked, HISTORY - 1, HISTORY, axis=2), 1, tower.pool)
    person = mixed(g, g.op("Concat", newest, pooled, axis=-1), tower.mix)
    for column, table in enumerate(tower.tables):
        fact = g.op("Gather", g.constant(array(table.weight)), g.columns("ids", column, column + 1, axis=1), axis=0)
        person = g.op("Add", person, fact)
    g.op("Squeeze", normalized(g, person), g.shape(1), name="vector")
    save_user_tower(g, file, dim, len(tower.tables))


# ---------------------------------------------------------------------------------------------- pieces


def array(tensor: Tensor) -> npt.NDArray[np.float32]:
    found: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return found.astype(np.float32, copy=False)


def dense(g: Graph, x: str, layer: nn.Linear, *, before: float = 1.0, after: float = 1.0) -> str:
    """(…, k) → (…, m) of `before` times x, times `after`."""
    product = g.op("MatMul", x, g.constant(array(layer.weight).T * np.float32(before * after)))
    return g.op("Add", product, g.constant(array(layer.bias) * np.float32(after)))


def layer_norm(g: Graph, x: str, layer: nn.LayerNorm) -> str:
    weight, bias = g.constant(array(layer.weight)), g.constant(array(layer.bias))
    return g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=layer.eps)


def gelu(g: Graph, x: str) -> str:
    """In the form that ONNX Runtime knows and computes at once."""
    error = g.op("Erf", g.op("Div", x, g.constant(math.sqrt(2))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", error, g.constant(1.0))), g.constant(0.5))


def mixed(g: Graph, x: str, mix: nn.Sequential) -> str:
    """A linear layer, GELU and, the last of the net, another linear layer."""
    first, last = mix[0], mix[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    return dense(g, gelu(g, dense(g, x, first)), last)


def normalized(g: Graph, x: str, name: str = "") -> str:
    """L2 norm 1 along the last axis."""
    norm = g.op("ReduceL2", x, g.shape(-1), keepdims=1)
    return g.op("Div", x, g.op("Max", norm, g.constant(EPSILON)), name=name)


def mean_of(g: Graph, table: npt.NDArray[np.float32], ids: str) -> str:
    """(n, slots) → (n, d): the mean of the embeddings that are not missing; row 0 is, and is zero."""
    total = g.op("ReduceSum", g.op("Gather", g.constant(table), ids, axis=0), g.shape(1), keepdims=0)
    there = g.op("Cast", g.op("Not", g.op("Equal", ids, g.constant(0, np.int64))), to=FLOAT)
    return g.op("Div", total, g.op("Max", g.op("ReduceSum", there, g.shape(1), keepdims=1), g.constant(1.0)))


def entered(g: Graph, tower: UserTower) -> str:
    """(b, L, d) the acts of a history, as the blocks read them."""
    x = dense(g, "history", tower.enter, before=math.sqrt(tower.enter.in_features))
    x = g.op("Add", x, g.op("Gather", g.constant(array(tower.types.weight)), "history_types", axis=0))
    value = g.op("Mul", g.op("Unsqueeze", "history_values", g.shape(-1)), g.constant(array(tower.value)))
    return layer_norm(g, g.op("Add", x, value), tower.first)


def passed(g: Graph, x: str, blocked: str, block: Block) -> str:
    """One block: attention and a feed-forward net, each added to what it reads."""
    normed = layer_norm(g, x, block.before)
    x = g.op("Add", x, attended(g, normed, normed, blocked, HISTORY, block.attention))
    return g.op("Add", x, mixed(g, layer_norm(g, x, block.between), block.feed))


def attended(g: Graph, asking: str, x: str, blocked: str, asked: int, attention: Attention) -> str:
    """`asking` (b, Q, d) over `x` (b, L, d); `asked` is Q."""
    split = g.shape(0, 0, attention.heads, attention.width)
    parts = [
        g.op("Reshape", dense(g, asking, attention.query, after=1 / math.sqrt(attention.width)), split),
        g.op("Reshape", dense(g, x, attention.key), split),
        g.op("Reshape", dense(g, x, attention.value), split),
    ]
    turned = [g.op("Transpose", part, perm=perm) for part, perm in zip(parts, PERMS, strict=True)]
    bias = attention.distance[:, attention.distances[-asked:]]  # (heads, Q, L)
    weights = g.op("Add", g.op("Add", g.op("MatMul", *turned[:2]), g.constant(array(bias))), blocked)
    seen = g.op("MatMul", g.op("Softmax", weights, axis=-1), turned[2])
    whole = g.op("Reshape", g.op("Transpose", seen, perm=[0, 2, 1, 3]), g.shape(0, 0, -1))
    return dense(g, whole, attention.out)


PERMS = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
"""Of query, key and value: heads before places, the key the other way round."""
