"""MLflow's own server over a home's registry, as a child process that ends with us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from winnow.errors import Unavailable
from winnow.registry import ENVIRONMENT

STOP_S = 10.0
QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 580 MB of memory instead of 2.8 GB
    "MLFLOW_CONFIGURE_LOGGING": "false",
}


@contextmanager
def mlflow_server(home: Path, port: int, host: str = "127.0.0.1") -> Iterator[str]:
    """The address of a server over `home`'s registry; it answers after some 20 s (`wait_ready`)."""
    log = home / "state" / "mlflow.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", host, "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{home.absolute()}/mlflow.db"),
        *("--artifacts-destination", str(home.absolute() / "mlartifacts")),
    ]
    with log.open("wb") as lines:
        child = subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT | QUIET,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its workers are one group with it, and a Ctrl-C here is not one there
        )
    try:
        yield f"http://{host}:{port}"
    finally:
        stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the child and its workers: politely, then not."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, how)
            child.wait(STOP_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def wait_ready(address: str, timeout_s: float = 120.0) -> None:
    """Return once the server answers; Unavailable when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/health", timeout=2.0).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise Unavailable(f"MLflow did not answer at {address} within {timeout_s:.0f} s; state/mlflow.log says why")


def free_port(wanted: int, host: str = "127.0.0.1") -> int:
    """`wanted`, or any free port when another program listens there."""
    for port in (wanted, 0):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable(f"no free port on {host}")
