"""ONNX Runtime for Triton, as a Python-based backend: `backend: "onnxruntime"` and `1/model.onnx` load unchanged.

For servers that come without the compiled backend of this name. It reads the same parameters of `config.pbtxt` as
that one (`intra_op_thread_count`) and answers the same. One request that a model cannot take does not spoil the batch
that it came in.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton
from onnxruntime.capi import onnxruntime_pybind11_state as ort

ORT_ERRORS = (ort.EPFail, ort.Fail, ort.InvalidArgument, ort.NotImplemented, ort.RuntimeException)


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {name: entry["string_value"] for name, entry in config.get("parameters", {}).items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", "1"))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        file = Path(args["model_repository"], args["model_version"], config["default_model_filename"] or "model.onnx")
        on_gpu = args["model_instance_kind"] == "GPU"
        providers = ["CUDAExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]
        self._batches = config["max_batch_size"] > 0

    def execute(self, requests):
        """A response per request: all in one run where the model has a batch dimension."""
        given = [{name: self._input(request, name) for name in self._inputs} for request in requests]
        if self._batches and len(given) > 1:
            with suppress(*ORT_ERRORS):  # whose fault it is shows when each runs alone
                return self._together(given)
        return [self._alone(inputs) for inputs in given]

    def _together(self, given):
        sizes = [len(inputs[self._inputs[0]]) for inputs in given]
        outputs = self._session.run(
            self._outputs, {name: np.concatenate([inputs[name] for inputs in given]) for name in self._inputs}
        )
        ends = np.cumsum(sizes)
        return [
            self._response([values[end - size : end] for values in outputs])
            for size, end in zip(sizes, ends, strict=True)
        ]

    def _alone(self, inputs):
        try:
            return self._response(self._session.run(self._outputs, inputs))
        except ORT_ERRORS as wrong:
            return triton.InferenceResponse(error=triton.TritonError(str(wrong), triton.TritonError.INVALID_ARG))

    def _response(self, outputs):
        return triton.InferenceResponse(
            [triton.Tensor(name, values) for name, values in zip(self._outputs, outputs, strict=True)]
        )

    def _input(self, request, name):
        return triton.get_input_tensor_by_name(request, name).as_numpy()
