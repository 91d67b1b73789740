"""A real Triton, and small bundles for it to serve."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from parts.program import HOST, Program, Running, free_ports, start
from parts.triton import ROOT, repository_of, triton
from tests.graphs import Graph
from winnow.artifacts import Bundle, seal
from winnow.model_repository import ModelRepository
from winnow.model_repository import Running as Tuning
from winnow.serving.model_host import TritonHost
from winnow.serving.triton import TritonServer

WIDTH = 256  # of the slow graph
LAYERS = 48


@dataclass
class Server:
    """A running Triton. `running` is replaced by `restart`."""

    address: str
    repository: Path
    program: Program
    running: Running

    def host(self, *, tuning: Tuning | None = None, **options: Any) -> TritonHost:
        return TritonHost(TritonServer(self.address), ModelRepository(self.repository, tuning), **options)

    def restart(self) -> None:
        """A power cut: what was loaded is not any more."""
        self.running.kill()
        self.running = start(self.program)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    subprocess.run([sys.executable, ROOT / "scripts" / "triton.py"], check=True, cwd=ROOT, timeout=600)
    grpc, http = free_ports(2)
    program = triton(folder, grpc, http)
    server = Server(f"{HOST}:{grpc}", repository_of(folder), program, start(program))
    try:
        yield server
    finally:
        server.running.stop()


def mixing(file: Path) -> None:
    """ids (n, 3), numbers (n, 2) → vector (n, 4), and the ids again as int64: row by row, ids below 10."""
    g = Graph(np.random.default_rng(3))
    pooled = g.op("ReduceMean", g.op("Gather", g.random(10, 4), "ids", axis=0), g.shape(1), keepdims=0)
    g.op("Add", pooled, g.linear("numbers", 2, 4), name="vector")
    g.op("Add", "ids", g.weight(1, np.int64), name="next")
    save(g, file, {"ids": (TensorProto.INT64, ("n", 3)), "numbers": (TensorProto.FLOAT, ("n", 2))}, "vector", "next")


def meeting(file: Path) -> None:
    """user (b, 4), items (b, n, 4) → scores (b, n): a second free size beside the batch."""
    g = Graph(np.random.default_rng(4))
    g.op(
        "ReduceSum", g.op("Mul", "items", g.op("Unsqueeze", "user", g.shape(1))), g.shape(2), keepdims=0, name="scores"
    )
    save(g, file, {"user": (TensorProto.FLOAT, ("b", 4)), "items": (TensorProto.FLOAT, ("b", "n", 4))}, "scores")


def summing(file: Path) -> None:
    """all (k,) → total (1,): no batch."""
    g = Graph(np.random.default_rng(5))
    g.op("ReduceSum", "all", keepdims=1, name="total")
    save(g, file, {"all": (TensorProto.FLOAT, ("k",))}, "total")


def toiling(file: Path) -> None:
    """x (n, 256) → y (n, 256): a millisecond or so per ten rows."""
    g, x = Graph(np.random.default_rng(6)), "x"
    for layer in range(LAYERS):
        x = g.op("Tanh", g.op("MatMul", x, g.random(WIDTH, WIDTH)), name="y" if layer == LAYERS - 1 else "")
    save(g, file, {"x": (TensorProto.FLOAT, ("n", WIDTH))}, "y")


def save(g: Graph, file: Path, inputs: Mapping[str, tuple[int, tuple[Any, ...]]], *outputs: str) -> None:
    from onnx import checker, helper
    from onnx import save as write

    kinds = {"next": TensorProto.INT64}
    rank = {"scores": 2, "total": 1}
    graph = helper.make_graph(
        g.nodes,
        file.stem,
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()],
        [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), [None] * rank.get(name, 2))
            for name in outputs
        ],
        g.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model)
    write(model, str(file))


PARTS = {"mixing": mixing, "meeting": meeting, "summing": summing, "toiling": toiling}


def small_bundle(path: Path, *parts: str, seed: int = 0) -> Bundle:
    """These graphs as a sealed bundle; another seed is another bundle of the same graphs."""
    path.mkdir(parents=True)
    for part in parts:
        PARTS[part](path / f"{part}.onnx")
    return seal(path, "ranking", facts={}, metrics={}, data={"seed": seed})
