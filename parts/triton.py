"""Triton, the inference server: KServe v2 over gRPC and HTTP, models loaded and unloaded on demand.

The server is the one that comes in NVIDIA's Python package, in an environment of its own (scripts/triton.py); that
package has the Python backend only, so ONNX Runtime is ours (deploy/triton/backends). In NVIDIA's image both are
there, and the same repository of models loads unchanged.
"""

from __future__ import annotations

import filecmp
import shutil
import sysconfig
from pathlib import Path

from parts.probe import answers
from parts.program import HOST, Program
from winnow.errors import FailedPrecondition

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-triton"
BACKENDS = ROOT / "deploy" / "triton" / "backends"
LIVE = "/v2/health/live"  # of the server; whether a model is ready is for its user to ask
STUB = "triton_python_backend_stub"


def triton(
    folder: Path, grpc_port: int, http_port: int, environment: Path = ENVIRONMENT, options: tuple[str, ...] = ()
) -> Program:
    """Models lie in `folder`/models (`repository_of`). None is loaded at the start: whoever wants one asks for it.
    `options` are further ones of the server."""
    packages = environment / "lib" / "python3.11" / "site-packages"
    server = packages / "pytriton" / "tritonserver"
    if not (server / "bin" / "tritonserver").is_file():
        raise FailedPrecondition("Triton is missing: run .venv/bin/python scripts/triton.py")
    repository = repository_of(folder)
    repository.mkdir(parents=True, exist_ok=True)
    chosen = {
        "model-repository": str(repository.absolute()),
        "backend-directory": str(gather_backends(server, folder / "backends").absolute()),
        "model-control-mode": "explicit",
        "strict-readiness": "false",  # else one model that fails to load makes the whole server unready for ever
        "grpc-address": HOST,
        "grpc-port": str(grpc_port),
        "http-address": HOST,
        "http-port": str(http_port),
        "allow-metrics": "false",
        "log-verbose": "0",
        "exit-timeout-secs": "5",
    }
    libraries = (packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
    variables = {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),  # without it the start hangs for ever
        "PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",  # whose Python runs the backends
        "PYTHONPATH": "",
        "VIRTUAL_ENV": str(environment),
        "OMP_NUM_THREADS": "1",
    }
    command = (str(server / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in chosen.items()), *options)
    return Program("triton", command, folder, lambda: answers(http_port, LIVE), env=variables, ready_s=60.0)


def repository_of(folder: Path) -> Path:
    return folder / "models"


def gather_backends(server: Path, folder: Path) -> Path:
    """The package's Python backend, the stub of our Python version beside it, and our own backends. Copies: Triton
    follows no link out of its folder."""
    stub = server / "python_backend_stubs" / sysconfig.get_python_version() / STUB
    for file in (*(server / "backends" / "python").iterdir(), stub):
        place(file, folder / "python" / file.name)
    for file in BACKENDS.glob("*/model.py"):
        place(file, folder / file.parent.name / file.name)
    return folder


def place(file: Path, target: Path) -> None:
    """A copy, replaced at once and only by another content: a server may run on it."""
    if target.is_file() and filecmp.cmp(file, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copy2(file, part)
    part.replace(target)
