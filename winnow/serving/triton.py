"""Triton over KServe v2 gRPC: a server that loads models on demand, and models that run on it.

This is the one place that knows what Triton's errors mean. A model that is configured here and that the server does
not know (NOT_FOUND: it restarted, or somebody unloaded it) is as much an outage as a server that is away; a full queue
is ResourceExhausted; an input that the graph does not take is ModelFailed, as it is in process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow.breaker import Breaker
from winnow.errors import (
    BundleRefused,
    DeadlineExceeded,
    FailedPrecondition,
    PayloadTooLarge,
    ResourceExhausted,
    Unavailable,
    WinnowError,
)
from winnow.inference import Arrays, ModelFailed, first_line
from winnow.model_repository import part_of
from winnow.pipeline import remaining_s
from winnow.serving.address import reason
from winnow.serving.backends import TRITON, asked
from winnow.serving.connect import OPTIONS
from winnow.serving.status import TOO_LARGE
from winnow.tracing import NOT_RECORDED, Kind, headers, span

FAIR_S = 0.02  # a call that was given less says nothing about the server when it is late
CONTROL_S = 2.0  # of a question that costs the server nothing
LOAD_S = 120.0
MOST_CALLS = 16  # of one model at a time, those that were given up included: what is queued soon has no takers


class ModelBroken(Unavailable):
    """The server has the model and fails to run it, so it will not come back by itself."""


class RegionUnknown(Unavailable):
    """The server does not know a region of shared memory (any more)."""


class Busy(ResourceExhausted):
    """Too many calls to the model are going on already."""


class Call:
    """One request, until the server has answered it, however long nobody waits any more."""

    def __init__(self, name: str, calls: Calls) -> None:
        self.name = name
        self.going: Any = None
        self._calls = calls
        self._ended = threading.Event()
        self._found: tuple[Any, Exception | None] = None, None

    def over(self, result: Any, error: Exception | None) -> None:
        """Called by the client's own thread."""
        self._found = result, error
        self._calls.end(self)
        self._ended.set()

    def wait(self, timeout_s: float) -> tuple[Any, Exception | None]:
        """The answer, or what went wrong; TimeoutError when there is neither yet."""
        if not self._ended.wait(timeout_s):
            raise TimeoutError
        return self._found


class Calls:
    """All calls that are going on, of each model at most `most`. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._going: dict[str, set[Call]] = {}

    def begin(self, name: str) -> Call:
        call = Call(name, self)
        with self._lock:
            going = self._going.setdefault(name, set())
            if len(going) >= self._most:
                raise Busy(f"{name}: {len(going)} calls are going on already")
            going.add(call)
        return call

    def end(self, call: Call) -> None:
        with self._lock:
            self._going[call.name].discard(call)
            if not self._going[call.name]:
                del self._going[call.name]


class TritonServer:
    """One server at `host:port`. Thread-safe. Every call has a time limit and raises only errors of the platform, or
    ModelFailed."""

    def __init__(
        self, address: str, most_calls: int = MOST_CALLS, tls: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """FailedPrecondition where a file of `tls` (as the client has it) cannot be read."""
        from tritonclient.grpc import InferenceServerClient  # type: ignore[import-untyped]
        from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]

        self.address = address
        self._failure = InferenceServerException
        try:
            self._client = InferenceServerClient(address, channel_args=OPTIONS, **tls)
        except OSError as wrong:
            raise FailedPrecondition(f"WINNOW_TRITON_CA, _CERT, _KEY: {wrong.filename}: {reason(wrong)}") from wrong
        self._calls = Calls(most_calls)

    def load(self, name: str, timeout_s: float = LOAD_S) -> None:
        """Returns when the model can be asked; one that is loaded stays as it is. BundleRefused when the server takes
        the files for no model."""
        try:
            self._client.load_model(name, client_timeout=timeout_s)
        except self._failure as broken:
            if status_of(broken) == "INVALID_ARGUMENT":
                raise BundleRefused(f"Triton does not load {name}: {first_line(broken)}") from broken
            raise self._meaning(broken) from broken

    def unload(self, name: str) -> None:
        """What runs finishes; a model that is not there is no error."""
        self._control(lambda: self._client.unload_model(name, client_timeout=CONTROL_S))

    def has(self, name: str) -> bool:
        """Whether the model is loaded; a model may be and still fail (`ModelBroken`)."""
        return bool(self._control(lambda: self._client.is_model_ready(name, client_timeout=CONTROL_S)))

    def probe(self, name: str, timeout_s: float = CONTROL_S) -> None:
        """Run the model on one row of zeros: what only looks loaded fails here. Raises what `infer` does."""
        found = self._control(lambda: self._client.get_model_metadata(name, client_timeout=timeout_s))
        zeros = {
            entry.name: np.zeros([max(size, 1) for size in entry.shape], triton_to_np(entry.datatype))
            for entry in found.inputs
        }
        self.infer(name, by_value(zeros), timeout_s)

    def register(self, region: str, key: str, size: int, timeout_s: float) -> None:
        """Let the server read a region of shared memory, under the name `region`; nothing happens when it may."""
        try:
            self._client.register_system_shared_memory(region, key, size, client_timeout=timeout_s)
        except self._failure as broken:
            if status_of(broken) != "ALREADY_EXISTS":
                raise self._meaning(broken) from broken

    def unregister(self, region: str) -> None:
        self._control(lambda: self._client.unregister_system_shared_memory(region, client_timeout=CONTROL_S))

    def infer(self, name: str, inputs: Sequence[Any], timeout_s: float) -> dict[str, npt.NDArray[Any]]:
        """`inputs` are made by `by_value`, or name a region. Past its time a request is not begun by the server.

        A call that is given up here goes on there: Triton 2.51 dies now and then of a request that is cancelled as it
        ends (triton-inference-server/server issues 7368 and 8034), and a deadline of gRPC cancels. So the caller waits,
        the call has no deadline, and one too many that is still going on is Busy.
        """
        with span("triton.infer", Kind.CLIENT, {"rpc.system": "grpc", "winnow.model": name}) as part:
            told = None if part is NOT_RECORDED else dict(headers())  # Triton's own spans join what is sampled
            return self._infer(name, inputs, timeout_s, told)

    def _infer(
        self, name: str, inputs: Sequence[Any], timeout_s: float, told: dict[str, str] | None
    ) -> dict[str, npt.NDArray[Any]]:
        call, limit_us = self._calls.begin(name), max(1, int(timeout_s * 1e6))
        try:
            going = self._client.async_infer(name, inputs, call.over, timeout=limit_us, headers=told)
        except BaseException:
            self._calls.end(call)
            raise
        try:
            answer, broken = call.wait(timeout_s)
        except TimeoutError:
            call.going = going  # gRPC cancels a call that nobody holds any more
            raise DeadlineExceeded(f"Triton at {self.address}: {name} was not done after {timeout_s:g} s") from None
        if broken is not None:
            raise self._meaning(broken) from broken
        return {output.name: answer.as_numpy(output.name) for output in answer.get_response().outputs}

    def close(self) -> None:
        self._client.close()

    def _control(self, ask: Any) -> Any:
        try:
            return ask()
        except self._failure as broken:
            raise self._meaning(broken) from broken

    def _meaning(self, broken: Exception) -> Exception:
        return meaning(f"Triton at {self.address}", status_of(broken), first_line(broken))


def status_of(broken: Any) -> str:
    """The name of a gRPC status; "" where the client itself refused."""
    return str(broken.status() or "").removeprefix("StatusCode.")


def meaning(peer: str, status: str, said: str) -> Exception:
    """What a failed call means to the caller; to be raised `from` it."""
    detail = f"{peer}: {said}"
    match status:
        case "INVALID_ARGUMENT" | "":
            return ModelFailed(detail)
        case "DEADLINE_EXCEEDED":
            return DeadlineExceeded(detail)
        case "RESOURCE_EXHAUSTED":
            return PayloadTooLarge(detail) if TOO_LARGE in said else ResourceExhausted(detail)
        case "UNAVAILABLE" if "maximum queue size" in said or "timeout expired" in said:
            return ResourceExhausted(detail)
        case "NOT_FOUND" if "shared memory region" in said:
            return RegionUnknown(detail)
        case "INTERNAL" | "UNKNOWN":
            return ModelBroken(detail)
        case _:  # UNAVAILABLE, NOT_FOUND of a model, a connection that broke
            return Unavailable(detail)


def by_value(inputs: Arrays) -> list[Any]:
    """Inputs that travel within the request."""
    tensors = []
    for name, values in inputs.items():
        tensors.append(described(name, values))
        tensors[-1].set_data_from_numpy(np.ascontiguousarray(values))
    return tensors


def triton_to_np(kind: str) -> Any:
    from tritonclient.utils import triton_to_np_dtype

    return triton_to_np_dtype(kind)


def described(name: str, values: npt.NDArray[Any]) -> Any:
    """An input's name, type and shape."""
    from tritonclient.grpc import InferInput
    from tritonclient.utils import np_to_triton_dtype

    kind = np_to_triton_dtype(values.dtype)
    if kind is None or values.dtype == np.object_:
        raise ModelFailed(f"{name}: a model takes no {values.dtype}")
    return InferInput(name, list(values.shape), kind)


class TritonModel:
    """A model of that name on the server (`winnow.inference.Model`). Each call lasts `timeout_s` at most, and no
    longer than the running stage; while the server does not answer, a breaker refuses at once."""

    def __init__(
        self, server: TritonServer, name: str, *, timeout_s: float = 1.0, breaker: Breaker | None = None
    ) -> None:
        self.name = name
        self._part = part_of(name)
        self._server = server
        self._timeout_s = timeout_s
        self._breaker = breaker or Breaker(name)

    @property
    def in_doubt(self) -> bool:
        """Calls have failed in a row, for whatever reason."""
        return self._breaker.state != "closed"

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        timeout_s = min(self._timeout_s, remaining_s(self._timeout_s))
        if timeout_s <= 0:
            raise DeadlineExceeded(f"{self.name}: no time left to ask")
        permit = self._breaker.admit()
        try:
            with asked(TRITON, self._part):
                outputs = self._ask(inputs, time.monotonic() + timeout_s)
        except (Unavailable, DeadlineExceeded) as lost:
            tells = isinstance(lost, Unavailable) or timeout_s >= FAIR_S
            (self._breaker.failed if tells else self._breaker.unknown)(permit)
            raise
        except Busy:
            self._breaker.unknown(permit)
            raise
        except (WinnowError, ModelFailed):
            self._breaker.answered(permit)
            raise
        self._breaker.answered(permit)
        return outputs

    def _ask(self, inputs: Arrays, until: float) -> dict[str, npt.NDArray[Any]]:
        return self._server.infer(self.name, by_value(inputs), left(until))


def left(until: float) -> float:
    """Seconds until then on the monotonic clock, never quite none."""
    return max(until - time.monotonic(), 0.001)
