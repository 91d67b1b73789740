"""The scheduler: what refreshes and retrains by the clock, where no cluster's CronJobs do."""

from __future__ import annotations

import sys
from pathlib import Path

from parts.probe import answers
from parts.program import Program

STOP_S = 25.0  # it ends the job that runs, which gets ten seconds
ROOT = Path(__file__).parents[1]


def schedule(folder: Path, home: Path, registry: str, metrics_port: int, options: tuple[str, ...] = ()) -> Program:
    """Over a home and the registry at an address ("": the home's own); `options` are further ones of the command."""
    told = ("--home", str(home.absolute()), "--metrics-port", str(metrics_port))
    command = (sys.executable, "-m", "cli", "schedule", *told, *(("--mlflow", registry) if registry else ()), *options)
    env = {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    return Program(
        "schedule", command, folder, lambda: answers(metrics_port, "/metrics"), env, ready_s=60.0, stop_s=STOP_S
    )
