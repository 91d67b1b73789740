"""Spark's streaming job, in one process of this machine; on a cluster spark-submit or an operator runs the same module.

It comes up without Kafka and Redis and works once they answer, so it may be started in any order.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from parts.probe import answers
from parts.program import HOST, Program
from winnow.errors import FailedPrecondition

READY_S = 120.0  # a JVM, a session and three queries, on a busy machine
STOP_S = 45.0  # running batches end first
RUNNING = "winnow_stream_running{"
ROOT = Path(__file__).parents[1]


def spark(
    folder: Path, bootstrap: str, home: Path, redis_url: str, metrics_port: int, options: tuple[str, ...] = ()
) -> Program:
    """The job over a broker, a home and a Redis; `options` are further ones of `python -m jobs.stream`."""
    if shutil.which("java") is None:
        raise FailedPrecondition("Spark needs Java 17; apt-get install openjdk-17-jre-headless")
    told = {
        "--bootstrap": bootstrap,
        "--home": str(home.absolute()),
        "--redis": redis_url,
        "--metrics-port": str(metrics_port),
        "--metrics-host": HOST,
    }
    command = (sys.executable, "-m", "jobs.stream", *(word for pair in told.items() for word in pair), *options)
    env = {"PYTHONPATH": str(ROOT)}
    return Program(
        "spark",
        command,
        folder,
        lambda: answers(metrics_port, "/metrics", not_running),
        env,
        ready_s=READY_S,
        stop_s=STOP_S,
    )


def not_running(said: str) -> str:
    """Why not every query runs, by the job's own metrics."""
    states = [line.rsplit(" ", 1)[1] for line in said.splitlines() if line.startswith(RUNNING)]
    return "" if states and set(states) == {"1.0"} else "not every query runs yet"
