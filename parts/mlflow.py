"""MLflow's own server over a home's registry: the UI in which models are promoted."""

from __future__ import annotations

import sys
from pathlib import Path

from parts.probe import answers
from parts.program import HOST, Program
from winnow.registry import ENVIRONMENT

READY_S = 120.0  # importing it takes 20 to 60 s on a busy machine
QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 580 MB of memory instead of 2.8 GB
    "MLFLOW_CONFIGURE_LOGGING": "false",
}


def mlflow(home: Path, port: int) -> Program:
    """SQLite and a folder of artifacts, both in the home; whoever reads the home sees the same models."""
    command = (
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{home.absolute()}/mlflow.db"),
        *("--artifacts-destination", str(home.absolute() / "mlartifacts")),
    )
    folder = home.absolute() / "state"
    return Program(
        "mlflow", command, folder, lambda: answers(port, "/health"), env=ENVIRONMENT | QUIET, ready_s=READY_S
    )
