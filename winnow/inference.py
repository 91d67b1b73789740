"""Runs a model: named arrays in, named arrays out. The port, and ONNX Runtime in this process.

Threads are pinned: several models in one Python process on a few cores otherwise fight over them.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from winnow.errors import BundleRefused
from winnow.features import Schema

Arrays = Mapping[str, npt.NDArray[Any]]

ORT_ERRORS = (
    ort.EPFail,
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NoModel,
    ort.NoSuchFile,
    ort.NotImplemented,
    ort.RuntimeException,
)
TOLERANCE = 1e-4  # between a sample output and its recomputation: kernels differ in the last bits from CPU to CPU


class Model(Protocol):
    """One loaded model. Thread-safe; blocks the calling thread for the time of the inference."""

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]: ...


class OnnxModel:
    """An ONNX file on the CPU provider (or those named), in this process. BundleRefused when it cannot be loaded."""

    def __init__(self, file: Path, *, threads: int = 1, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=list(providers))
        except ORT_ERRORS as broken:
            raise BundleRefused(f"{file.name} cannot be loaded: {first_line(broken)}") from broken
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.inputs = {i.name: i.shape for i in self._session.get_inputs()}

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


def largest_difference(got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest absolute difference; infinity where shapes differ or something is not finite."""
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.max(np.abs(got - expected))) if got.size else 0.0


def check_samples(file: Path, models: Mapping[str, Model]) -> None:
    """Recompute a bundle's `samples.npz`; BundleRefused where an output is missing, fails or differs by `TOLERANCE`."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            samples = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as broken:
        raise BundleRefused(f"{file.name} cannot be read: {broken}") from broken
    for name, model in models.items():
        expected = part(samples, f"{name}.out.")
        if not expected:
            raise BundleRefused(f"{file.name} has no samples of {name}")
        try:
            got = model.run(part(samples, f"{name}.in."))
        except (ValueError, *ORT_ERRORS) as broken:
            raise BundleRefused(f"{name} does not take its sample inputs: {first_line(broken)}") from broken
        for output, values in expected.items():
            worst = largest_difference(got[output], values) if output in got else float("inf")
            if worst > TOLERANCE:
                raise BundleRefused(f"{name}: sample output {output} differs by {worst:.2g}, allowed is {TOLERANCE:g}")


def check_tables(name: str, model: Model, schema: Schema, others: Arrays | None = None) -> None:
    """Run the model on the last row of every vocabulary (`others`: inputs beside `ids` and `numbers`); BundleRefused
    when its tables are smaller than the schema says or its inputs are not the schema's."""
    last = [len(schema.vocabularies[f.vocabulary]) - 1 for f in schema.categorical for _ in range(f.slots)]
    inputs: dict[str, npt.NDArray[Any]] = {"ids": np.asarray([last], np.int64).reshape(1, schema.width)}
    inputs |= others or {"numbers": np.zeros((1, len(schema.numeric)), np.float32)}
    try:
        model.run(inputs)
    except (ValueError, *ORT_ERRORS) as broken:
        raise BundleRefused(f"{name} does not take what its schema encodes: {first_line(broken)}") from broken


def part(samples: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {key.removeprefix(prefix): values for key, values in samples.items() if key.startswith(prefix)}


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
