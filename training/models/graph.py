"""Writes an ONNX graph node by node: for models whose operations are counted, and whose files must be the same bytes
for the same weights. Knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 18, 10
Shape = Sequence[int | str]
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


@dataclass
class Graph:
    """A graph under construction. `op` adds a node and returns the name of its output."""

    name: str
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def shape(self, *sizes: int) -> str:
        """Sizes, axes or indices."""
        return self.constant(np.asarray(sizes), np.int64)

    def linear(self, x: str, weight: npt.NDArray[np.float32], bias: str = "", name: str = "") -> str:
        """(m, d) times `weight` (k, d) as torch stores it, plus `bias` (k,) or (m, k): one Gemm."""
        return self.op("Gemm", x, self.constant(weight.T), *([bias] if bias else []), name=name)

    def clip(self, x: str, low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]) -> str:
        """Each column within its own bounds."""
        return self.op("Min", self.op("Max", x, self.constant(low)), self.constant(high))

    def columns(self, x: str, start: int, stop: int, axis: int) -> str:
        return self.op("Slice", x, self.shape(start), self.shape(stop), self.shape(axis))

    def save(self, file: Path, inputs: Mapping[str, tuple[str, Shape]], outputs: Mapping[str, Shape]) -> None:
        """`inputs` are (dtype, shape), `outputs` float32 of a shape; a named size may be anything at run time."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(n, TYPES[dtype], list(shape)) for n, (dtype, shape) in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n, shape in outputs.items()],
            self.constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="winnow"
        )
        onnx.checker.check_model(model)
        file.write_bytes(model.SerializeToString(deterministic=True))
