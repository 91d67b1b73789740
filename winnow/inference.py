"""Runs a model: named arrays in, named arrays out. The ports, and ONNX Runtime in this process.

Threads are pinned: several models in one Python process on a few cores otherwise fight over them. The other side of
the ports is `winnow.serving.model_host`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from winnow.artifacts import Bundle
from winnow.encoding import Schema
from winnow.errors import BundleRefused
from winnow.serving.backends import ONNX, asked

Arrays = Mapping[str, npt.NDArray[Any]]
Provider = str | tuple[str, Mapping[str, str]]
"""What ONNX Runtime computes with, in its own words, and perhaps with options."""

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


class ModelFailed(ValueError):
    """A model does not take what it was given, or fails on it: a bundle that is not what it says, or a bug. Never an
    outage, so nothing survives it."""


class Model(Protocol):
    """One loaded model. Thread-safe; blocks the calling thread for the time of the inference."""

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Every output by name; arrays are not to be written to. Inputs have the model's own names and dtypes and one
        row at least. Raises ModelFailed; a model that runs elsewhere also Unavailable, DeadlineExceeded,
        ResourceExhausted and PayloadTooLarge."""
        ...


class ModelHost(Protocol):
    """Where the models of bundles run. A model is kept for as long as somebody holds it."""

    def load(self, bundle: Bundle, parts: Sequence[str]) -> dict[str, Model]:
        """The models of a bundle's files `<part>.onnx`. Raises BundleRefused; a host elsewhere also Unavailable and
        DeadlineExceeded. Takes seconds: run it in a thread."""
        ...

    def close(self) -> None:
        """Nothing is asked any more."""
        ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a graph; a dimension of any size has a name, or None where the graph gives it none."""

    name: str
    kind: str  # in ONNX Runtime's words: "tensor(float)"
    shape: tuple[int | str | None, ...]


class OnnxModel:
    """An ONNX file on the CPU provider (or those named), in this process. BundleRefused when it cannot be loaded."""

    def __init__(
        self, file: Path, *, threads: int = 1, providers: tuple[Provider, ...] = ("CPUExecutionProvider",)
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = open_session(file, options, providers)
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def providers(self) -> tuple[str, ...]:
        """Those that it runs on: one that was named and could not start is left out without an error."""
        return tuple(self._session.get_providers())

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        try:
            outputs = self._session.run(self._outputs, dict(inputs))
        except (ValueError, *ORT_ERRORS) as wrong:
            raise ModelFailed(first_line(wrong)) from wrong
        return dict(zip(self._outputs, outputs, strict=True))


class Timed:
    """A model in this process whose runs are measured, as those of its part."""

    def __init__(self, model: Model, part: str) -> None:
        self._model = model
        self._part = part

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        with asked(ONNX, self._part):
            return self._model.run(inputs)


class InProcess:
    """The host that every process has."""

    def load(self, bundle: Bundle, parts: Sequence[str]) -> dict[str, Model]:
        return {part: Timed(OnnxModel(bundle.file(f"{part}.onnx")), part) for part in parts}

    def close(self) -> None:
        """Sessions end with whoever holds them."""


def open_session(file: Path, options: Any, providers: Sequence[Provider] = ("CPUExecutionProvider",)) -> Any:
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=list(providers))
    except ORT_ERRORS as broken:
        raise BundleRefused(f"{file.name} cannot be loaded: {first_line(broken)}") from broken


def signature_of(file: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of an ONNX file. BundleRefused when it cannot be loaded."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(file, options)
    sides = (session.get_inputs(), session.get_outputs())
    inputs, outputs = ([Tensor(node.name, node.type, tuple(node.shape)) for node in side] for side in sides)
    return inputs, outputs


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
        except ModelFailed as broken:
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
    except ModelFailed as broken:
        raise BundleRefused(f"{name} does not take what its schema encodes: {first_line(broken)}") from broken


def part(samples: Arrays, prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {key.removeprefix(prefix): values for key, values in samples.items() if key.startswith(prefix)}


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
