"""What the hop to Triton costs: the cross network over one person's candidates, in process, by gRPC and by shared memory.

Stopwatch times of one caller, all three in turn so that they meet the same machine. The server has one instance with
one thread, as the process itself has; it must run on this machine, for shared memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.kernels import TURNS, Scorer
from parts.program import HOST, free_ports, running
from parts.triton import repository_of, triton
from winnow.artifacts import Bundle
from winnow.inference import InProcess, ModelHost, largest_difference
from winnow.model_repository import ModelRepository
from winnow.serving.model_host import TritonHost
from winnow.serving.triton import TritonServer

Times = npt.NDArray[np.float64]
CALLS = 300
WARM = 20
TIMEOUT_S = 30.0


def hop_here(bundle: Bundle, folder: Path) -> dict[str, float]:
    """`measure_hop` against a Triton of our own below `folder`, ended afterwards; FailedPrecondition without one."""
    grpc_port, http_port = free_ports(2)
    with running(triton(folder, grpc_port, http_port)):
        return measure_hop(bundle, f"{HOST}:{grpc_port}", repository_of(folder))


def measure_hop(bundle: Bundle, address: str, repository: Path, n: int = 500, calls: int = CALLS) -> dict[str, float]:
    """Figures of a ranking bundle by dotted names: `infer.500.onnx_ms` and its like are
    medians, `…_p99_ms` the 99th percentiles. RuntimeError where Triton answers otherwise than the process."""
    scorer = Scorer.load(bundle, n, table=20 * n)
    meetings = [scorer.meeting(k, n, scorer.person(k)) for k in range(TURNS)]
    with ExitStack() as stack:
        models = {
            name: stack.enter_context(closing(host)).load(bundle, ["cross"])["cross"]
            for name, host in hosts(address, repository).items()
        }
        expected = models["onnx"].run(meetings[0])["heads"]
        for name, model in models.items():
            if largest_difference(model.run(meetings[0])["heads"], expected) > 1e-5:
                raise RuntimeError(f"{name} scores otherwise than ONNX Runtime in process")
        runs = {name: lambda k, model=model: model.run(meetings[k % TURNS]) for name, model in models.items()}
        return figures(n, stopwatch(runs, calls))


def hosts(address: str, repository: Path) -> dict[str, ModelHost]:
    def far(shared: bool) -> ModelHost:
        return TritonHost(TritonServer(address), ModelRepository(repository), timeout_s=TIMEOUT_S, shared=shared)

    return {"onnx": InProcess(), "triton_grpc": far(False), "triton_shm": far(True)}


def stopwatch(runs: Mapping[str, Callable[[int], object]], calls: int) -> dict[str, Times]:
    """Milliseconds per call of each, the first ones left out."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(WARM + calls):
        for name, run in runs.items():
            began = time.perf_counter()
            run(k)
            took[name].append((time.perf_counter() - began) * 1000)
    return {name: np.array(times[WARM:]) for name, times in took.items()}


def figures(n: int, took: Mapping[str, Times]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, times in took.items():
        found[f"infer.{n}.{name}_ms"] = float(np.median(times))
        found[f"infer.{n}.{name}_p99_ms"] = float(np.percentile(times, 99))
    return found
