"""The folder that Triton reads models from: writes a bundle's ONNX files into it, and knows who uses which.

A model is named after its bundle's kind, its part and its bundle's id, so old and new live side by side and the same
content is the same model. It appears by one rename, complete. `config.pbtxt` is derived from the graph itself.

Several processes may share one folder. Each renews a lease on what it uses; a model whose leases have all run out may
be removed by anyone. Models that no lease was ever taken on are somebody else's and are left alone. Nothing here
knows a server.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from winnow.artifacts import Bundle
from winnow.errors import BundleRefused, Unavailable
from winnow.inference import Tensor, signature_of

LEASES = ".leases"  # a folder a model, in it a file a user; its time is when the lease was renewed
CONFIG = "config.pbtxt"
VERSION = "1"
MAX_BATCH = 8_192  # rows of one run: more than the largest request has
TENSORRT = 'optimization { execution_accelerators { gpu_execution_accelerator : [ { name: "tensorrt" } ] } }'
TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(double)": "TYPE_FP64",
    "tensor(int64)": "TYPE_INT64",
    "tensor(int32)": "TYPE_INT32",
    "tensor(bool)": "TYPE_BOOL",
}


@dataclass(frozen=True, slots=True)
class Running:
    """How Triton runs each model.

    Limits on its queue are for servers that keep time with them: in 2.51 any of them turns prefetching off, and then a
    request that comes while an instance is about to be free is woken for half a second later, one in a thousand
    (docs/adr/0007-triton.md). Without them a queue is as long as the threads of all clients together, and a client
    that gives up takes its request out of it.
    """

    instances: int = 1
    on_gpu: bool = False
    tensorrt: bool = False  # on the GPU only
    threads: int = 1  # of one run
    max_queue: int = 0  # requests; one more is refused; 0: no limit
    max_queue_s: float = 0.0  # a request that waited longer is refused; its own deadline may be nearer; 0: no limit


class ModelRepository:
    """One user's view of the folder. Raises Unavailable when it cannot be read or written."""

    def __init__(self, folder: Path, running: Running | None = None) -> None:
        self.folder = folder
        self._running = running or Running()
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"

    def publish(self, bundle: Bundle, part: str) -> str:
        """Put `<part>.onnx` of a bundle in place, take a lease on it and return the model's name. What is there
        already stays; its configuration becomes ours. BundleRefused when the file is no model that can be served."""
        name, file = name_of(bundle, part), bundle.file(f"{part}.onnx")
        config = config_of(name, *signature_of(file), self._running)
        with self._translated():
            self.renew(name)
            there = self.folder / name / CONFIG
            if not there.is_file():
                self._write(name, file, config)
            elif there.read_text(encoding="utf-8") != config:
                replace(there, config)
        return name

    def renew(self, name: str) -> None:
        """This user goes on using the model."""
        with self._translated():
            lease = self.folder / LEASES / name / self._owner
            lease.parent.mkdir(parents=True, exist_ok=True)
            lease.touch()

    def unused(self, for_s: float) -> list[str]:
        """Models whose last lease ran out `for_s` ago, by the clock of the file system that holds the folder."""
        with self._translated():
            leases = self.folder / LEASES
            leases.mkdir(parents=True, exist_ok=True)
            now = self._now()
            return [model.name for model in sorted(leases.iterdir()) if model.is_dir() and now - last(model) > for_s]

    def remove(self, name: str) -> None:
        """Its files and leases; nothing happens when they are gone."""
        for gone in (self.folder / name, self.folder / LEASES / name):
            shutil.rmtree(gone, ignore_errors=True)

    def _write(self, name: str, file: Path, config: str) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".publish-") as scratch:
            version = Path(scratch) / name / VERSION
            version.mkdir(parents=True)
            shutil.copyfile(file, version / "model.onnx")
            for weights in file.parent.glob(f"{file.name}.*"):  # large weights may lie beside the graph
                shutil.copyfile(weights, version / weights.name)
            (version.parent / CONFIG).write_text(config, encoding="utf-8")
            version.parent.chmod(0o755)
            try:
                version.parent.rename(self.folder / name)
            except OSError:
                if not (self.folder / name / CONFIG).is_file():  # else another user was first
                    raise

    def _now(self) -> float:
        clock = self.folder / LEASES / f".now-{self._owner}"
        clock.touch()
        return clock.stat().st_mtime

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as broken:
            raise Unavailable(f"model repository {self.folder}: {broken.strerror or broken}") from broken


def name_of(bundle: Bundle, part: str) -> str:
    return f"{bundle.kind}-{part}-{bundle.id}"


def replace(file: Path, text: str) -> None:
    """At once, so that nobody reads half of it."""
    part = file.with_name(f".{file.name}-{uuid4().hex[:8]}")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def last(model: Path) -> float:
    """When any user of a model last renewed, seconds since 1970; a lease that vanishes meanwhile is none."""
    newest = 0.0
    for lease in model.iterdir():
        try:
            newest = max(newest, lease.stat().st_mtime)
        except FileNotFoundError:
            continue
    return newest


def config_of(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], running: Running) -> str:
    """`config.pbtxt` of a graph. Where every input begins with the same free dimension, that is the batch, and rows
    of several requests may share a run."""
    batch = is_batch(inputs, outputs)
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {MAX_BATCH if batch else 0}",
        *(f"input [ {{ {tensor(entry, batch)} }} ]" for entry in inputs),
        *(f"output [ {{ {tensor(entry, batch)} }} ]" for entry in outputs),
        f"instance_group [ {{ count: {running.instances} kind: {'KIND_GPU' if running.on_gpu else 'KIND_CPU'} }} ]",
        f"version_policy {{ specific {{ versions: [ {VERSION} ] }} }}",
        parameter("intra_op_thread_count", running.threads),
        warm_up(inputs, batch),
        *([TENSORRT] if running.on_gpu and running.tensorrt else ()),
    ]
    return "\n".join([*lines, dynamic_batching(running)] if batch else lines) + "\n"


def is_batch(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    free = {entry.shape[0] if entry.shape and not isinstance(entry.shape[0], int) else 0 for entry in inputs}
    deep = all(len(entry.shape) > 1 for entry in (*inputs, *outputs))
    return deep and len(free) == 1 and 0 not in free and not any(isinstance(out.shape[0], int) for out in outputs)


def tensor(entry: Tensor, batch: bool) -> str:
    if entry.kind not in TYPES:
        raise BundleRefused(f"{entry.name} is a {entry.kind}; Triton is given {', '.join(TYPES)}")
    dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in entry.shape[batch:])
    return f'name: "{entry.name}" data_type: {TYPES[entry.kind]} dims: [ {dims} ]'


def parameter(key: str, value: int) -> str:
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'


def warm_up(inputs: Sequence[Tensor], batch: bool) -> str:
    """One row of zeros before a model counts as loaded, so that nobody's request is the first; free sizes are 1."""
    zeros = []
    for entry in inputs:
        dims = ", ".join(str(size) if isinstance(size, int) else "1" for size in entry.shape[batch:])
        value = f"data_type: {TYPES[entry.kind]} dims: [ {dims} ] zero_data: true"
        zeros.append(f'inputs {{ key: "{entry.name}" value: {{ {value} }} }}')
    return f'model_warmup [ {{ name: "zeros" batch_size: {int(batch)} {" ".join(zeros)} }} ]'


def dynamic_batching(running: Running) -> str:
    policy = []
    if running.max_queue:
        policy.append(f"max_queue_size: {running.max_queue}")
    if running.max_queue_s:
        wait = f"default_timeout_microseconds: {int(running.max_queue_s * 1e6)}"
        policy.append(f"timeout_action: REJECT allow_timeout_override: true {wait}")
    limits = f"default_queue_policy {{ {' '.join(policy)} }} " if policy else ""
    return f"dynamic_batching {{ {limits}}}"
