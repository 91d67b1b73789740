"""`winnow schedule`: on one machine what CronJobs are on a cluster. Runs `refresh` and `retrain` as child processes, one
at a time, for ever.

A job that fails is logged and run again at its next turn; nothing that a job does ends the scheduler. SIGTERM ends the
job that runs, and the scheduler. How each job went last is in the home's `state/schedule.json` and in the metrics.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from cli.homes import Data, HomeOption, home_of
from cli.promote import Uri
from cli.timetable import Job, first_due, next_of
from cli.turns import Exit, alone
from winnow.errors import InvalidArgument, Unavailable
from winnow.serving.telemetry import configure_logging

STATUS = "schedule.json"
STOP_S = 10.0  # from SIGTERM to SIGKILL
POLL_S = 0.2
LONGEST_NAP_S = 60.0  # so that a clock that is set is noticed
OUTPUT_BYTES = 1_000_000  # of a job that are looked at, from the end
STOPPED = "stopped"  # with the scheduler; such a turn goes on when the next one starts
OUTCOMES: dict[int, str] = {Exit.DONE: "done", Exit.REFUSED: "refused", Exit.BUSY: "busy"}

logger = logging.getLogger("winnow.schedule")

RefreshMinutes = Annotated[float, typer.Option(min=0.001, help="Between refreshes of retrieval.")]
RankingHours = Annotated[float, typer.Option(min=0.0001, help="Between trainings of the ranker alone.")]
RetrainDays = Annotated[float, typer.Option(min=0.0001, help="Between trainings of both models.")]
LimitHours = Annotated[float, typer.Option(min=0.001, help="After which a training is stopped.")]
Preset = Annotated[str, typer.Option("--preset", help="Of the trainings: quick or full.")]
MetricsPort = Annotated[int, typer.Option(min=0, max=65_535, help="Prometheus metrics on this machine; 0: none.")]


@dataclass(frozen=True, slots=True)
class Turn:
    """How one turn of a job went: `exit` is the process's status, negative when a signal ended it."""

    began: float
    seconds: float
    outcome: str
    words: str
    exit: int


class Metrics:
    """What Prometheus sees of the jobs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.runs = Counter("winnow_job_runs", "Turns of a job", ["task", "outcome"], registry=self.registry)
        self.seconds = Gauge("winnow_job_seconds", "Of a job's last turn", ["task"], registry=self.registry)
        self.success = Gauge(
            "winnow_job_last_success_timestamp_seconds", "When a job was last done", ["task"], registry=self.registry
        )
        self.running = Gauge("winnow_job_running", "1 while a job runs", ["task"], registry=self.registry)

    def count(self, job: str, turn: Turn) -> None:
        self.runs.labels(job, turn.outcome).inc()
        self.seconds.labels(job).set(turn.seconds)
        if turn.exit == Exit.DONE:
            self.success.labels(job).set(turn.began + turn.seconds)

    def serve(self, port: int) -> None:
        if not port:
            return
        try:
            start_http_server(port, "127.0.0.1", registry=self.registry)
        except OSError as taken:
            raise Unavailable(f"cannot show metrics on port {port}: {taken.strerror}") from taken


def schedule(
    data: Data = "ml-100k",
    home: HomeOption = None,
    refresh_minutes: RefreshMinutes = 15,
    ranking_hours: RankingHours = 24,
    retrain_days: RetrainDays = 7,
    limit_hours: LimitHours = 12,
    preset: Preset = "quick",
    mlflow: Uri = "",
    metrics_port: MetricsPort = 0,
) -> None:
    """Refresh, retrain the ranker and retrain both by the clock, until SIGTERM or Ctrl-C."""
    folder = home_of(data, home).absolute()
    if not folder.is_dir():
        raise InvalidArgument(f"{folder} does not exist; run winnow ingest first", field="home")
    configure_logging()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    metrics = Metrics()
    metrics.serve(metrics_port)
    common = ("--home", str(folder), "--json", *(("--mlflow", mlflow) if mlflow else ()))
    trainings = ("--preset", preset, *common)
    plan = {
        "refresh": (("refresh", *common), refresh_minutes * 60, 3_600.0),
        "retrain-ranking": (("retrain", "--only", "ranking", *trainings), ranking_hours * 3_600, limit_hours * 3_600),
        "retrain": (("retrain", *trainings), retrain_days * 86_400, limit_hours * 3_600),
    }
    with alone(folder, "schedule", lock="schedule"):
        Scheduler(folder, plan, metrics, stopped).run()


class Scheduler:
    """Runs the jobs of `plan` (name: words, every_s, limit_s) over a home until `stopped` is set."""

    def __init__(
        self,
        home: Path,
        plan: dict[str, tuple[tuple[str, ...], float, float]],
        metrics: Metrics,
        stopped: threading.Event,
        program: tuple[str, ...] = (sys.executable, "-m", "cli"),
    ) -> None:
        self.home, self.metrics, self.stopped, self.program = home, metrics, stopped, program
        self.last, interrupted = noted(home)
        now = time.time()
        self.jobs = {}
        for name, (words, every_s, limit_s) in plan.items():
            began = None if name == interrupted else self.last.get(name, {}).get("began")
            due = first_due(every_s, began, now, at_once=name in ("refresh", interrupted))
            self.jobs[name] = Job(name, words, every_s, limit_s, due)

    def run(self) -> None:
        self.note("")
        while not self.stopped.is_set():
            job = next_of([*self.jobs.values()])
            wait_s = job.due - time.time()
            if wait_s > 0:
                self.stopped.wait(min(wait_s, LONGEST_NAP_S))
                continue
            self.take(job)

    def take(self, job: Job) -> None:
        """One turn of a job, whatever becomes of it."""
        began = time.time()
        self.note(job.name)
        self.metrics.running.labels(job.name).set(1)
        turn = self.turn(job, began)
        self.metrics.running.labels(job.name).set(0)
        self.metrics.count(job.name, turn)
        self.jobs[job.name] = job.after(began)
        if job.name == "retrain" and turn.exit == Exit.DONE and "refresh" in self.jobs:
            self.jobs["refresh"] = self.jobs["refresh"].at(
                time.time()
            )  # new towers know 80 % of the log; bring the rest
        self.last[job.name] = {
            "began": turn.began,
            "seconds": turn.seconds,
            "outcome": turn.outcome,
            "exit": turn.exit,
            "words": turn.words,
            "failures": 0 if turn.exit in OUTCOMES else self.last.get(job.name, {}).get("failures", 0) + 1,
        }
        self.note(job.name if turn.outcome == STOPPED else "")
        level = logging.INFO if turn.exit in OUTCOMES else logging.ERROR
        logger.log(level, "%s: %s in %.1f s: %s", job.name, turn.outcome, turn.seconds, turn.words)

    def turn(self, job: Job, began: float) -> Turn:
        started = time.monotonic()
        out, log = (self.home / "state" / f"{job.name}.{ending}" for ending in ("out.json", "log"))
        try:
            with out.open("wb") as stdout, log.open("wb") as stderr:
                child = subprocess.Popen(
                    [*self.program, *job.words], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
                )
                why = self.attended(child, started + job.limit_s)
        except OSError as failed:
            return Turn(began, 0.0, "failed", f"it cannot be started: {failed.strerror}", -1)
        seconds = round(time.monotonic() - started, 2)
        outcome = why or OUTCOMES.get(child.returncode, "failed")
        return Turn(began, seconds, outcome, last_line(log), child.returncode)

    def attended(self, child: subprocess.Popen[bytes], until: float) -> str:
        """Wait for its end; "" then, else why it was ended."""
        while child.poll() is None:
            why = STOPPED if self.stopped.wait(POLL_S) else "timed out" if time.monotonic() > until else ""
            if why:
                end(child)
                return why
        return ""

    def note(self, running: str) -> None:
        """The status file, replaced at once."""
        document = {
            "pid": os.getpid(),
            "running": running,
            "jobs": {
                name: {"every_s": job.every_s, "due": job.due, **self.last.get(name, {})}
                for name, job in self.jobs.items()
            },
        }
        file = self.home / "state" / STATUS
        beside = file.with_suffix(".tmp")
        try:
            beside.write_text(json.dumps(document, indent=1), "utf-8")
            beside.replace(file)
        except OSError as full:
            logger.error("the status cannot be written: %s", full.strerror)


def end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after `STOP_S` SIGKILL."""
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(STOP_S)
    child.kill()
    child.wait(STOP_S)


def noted(home: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """How each job went last, and which one was interrupted, by the status file."""
    try:
        known = json.loads((home / "state" / STATUS).read_text("utf-8"))
        return {str(name): dict(job) for name, job in known["jobs"].items()}, str(known["running"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, ""


def last_line(log: Path) -> str:
    """What a job said last: its reason, in one line."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - OUTPUT_BYTES))
        lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
