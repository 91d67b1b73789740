"""A torch module as one ONNX file with dynamic batch sizes, free of traces of the machine it was made on."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from winnow.inference import OnnxModel, largest_difference

OPSET = 18
PARITY = 1e-5  # largest |ONNX - torch| that an export may have


@runtime_checkable
class Drawn(Protocol):
    """A module that writes its own graph, with the names of inputs and outputs that its caller exports."""

    def draw(self, file: Path) -> None: ...


def export(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    file: Path,
) -> None:
    """Write `module(**inputs)` as `file`, weights inside. `dynamic` names the axes of each input that may vary.

    Raises ValueError when ONNX Runtime's outputs differ from torch's by more than `PARITY`.
    """
    module = module.eval().cpu()
    if isinstance(module, Drawn):
        module.draw(file)
    else:
        traced(module, inputs, outputs, dynamic, file)
    worst = difference(module, inputs, outputs, file)
    if not worst <= PARITY:
        raise ValueError(f"{file.name} differs from torch by {worst:.2g}, allowed is {PARITY:g}")


def traced(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    file: Path,
) -> None:
    """The file as torch's exporter writes it."""
    sizes = {name: torch.export.Dim(name) for axes in dynamic.values() for name in axes.values()}
    shapes = {name: {axis: sizes[size] for axis, size in dynamic.get(name, {}).items()} for name in inputs}
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            kwargs=dict(inputs),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    anonymise(model)
    onnx.save(model, str(file))


def difference(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], file: Path) -> float:
    """The largest |ONNX - torch| over all outputs."""
    with torch.no_grad():
        expected = module(**inputs)
    tensors = expected if isinstance(expected, tuple) else (expected,)
    got = OnnxModel(file).run(arrays(inputs))
    return max(largest_difference(got[name], t.numpy()) for name, t in zip(outputs, tensors, strict=True))


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[np.generic]]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def anonymise(model: onnx.ModelProto) -> None:
    """Drop documentation strings and metadata: the exporter writes stack traces with local paths there."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    entries: list[Any] = [*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info]
    for entry in (*entries, *model.functions):
        entry.doc_string = ""
        del entry.metadata_props[:]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter narrates on standard output and warns of what it handles."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
