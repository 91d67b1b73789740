"""Runs a model: named arrays in, named arrays out. The port, and ONNX Runtime in this process.

Threads are pinned: several models in one Python process on a few cores otherwise fight over them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

Arrays = Mapping[str, npt.NDArray[Any]]


class Model(Protocol):
    """One loaded model. Thread-safe; blocks the calling thread for the time of the inference."""

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]: ...


class OnnxModel:
    """An ONNX file on the CPU provider (or those named), in this process."""

    def __init__(self, file: Path, *, threads: int = 1, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=list(providers))
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.inputs = {i.name: i.shape for i in self._session.get_inputs()}

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


def largest_difference(got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest absolute difference; infinity where shapes differ or something is not finite."""
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.max(np.abs(got - expected))) if got.size else 0.0
