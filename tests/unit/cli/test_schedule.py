"""The scheduler with real child processes: what fails is tried again, nothing runs twice, SIGTERM ends everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.schedule import Metrics, Scheduler, noted
from cli.turns import Busy, Exit, alone

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import pathlib, sys, time
home, name, *words = sys.argv[1:]
with open(pathlib.Path(home) / "turns.txt", "a") as log:
    log.write(f"{name} {time.time()} ")
    log.flush()
    time.sleep(float(words[0]))
    log.write(f"{time.time()}\\n")
print("a first line", file=sys.stderr)
print(f"{name} ended", file=sys.stderr)
sys.exit(int(words[1]))
"""


def scheduler(home: Path, **plan: tuple[float, int, float, float]) -> Scheduler:
    """Jobs by name: seconds that a turn takes, its exit status, `every_s`, `limit_s`."""
    (home / "state").mkdir(exist_ok=True)
    jobs = {
        name: ((str(home), name, str(takes_s), str(status)), every_s, limit_s)
        for name, (takes_s, status, every_s, limit_s) in plan.items()
    }
    return Scheduler(home, jobs, Metrics(), threading.Event(), (sys.executable, "-c", CHILD))


def until(one: Scheduler, holds: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Run the scheduler until something holds."""
    thread = threading.Thread(target=one.run)
    thread.start()
    end = time.monotonic() + patience_s
    while thread.is_alive() and not holds() and time.monotonic() < end:
        time.sleep(0.02)
    one.stopped.set()
    thread.join(20)
    assert not thread.is_alive()
    assert holds()


def turns(home: Path) -> list[list[str]]:
    file = home / "turns.txt"
    return [line.split() for line in file.read_text().splitlines() if len(line.split()) == 3] if file.exists() else []


def status(home: Path) -> dict[str, Any]:
    file = home / "state" / "schedule.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"jobs": {}}
    return found


def outcome(home: Path, job: str = "refresh") -> str:
    """Of the job's last turn."""
    return str(status(home)["jobs"].get(job, {}).get("outcome"))


def test_a_job_that_fails_is_tried_again_and_the_others_run_on(tmp_path: Path) -> None:
    one = scheduler(tmp_path, refresh=(0.0, 1, 0.3, 60), other=(0.0, 0, 0.3, 60))
    seen: list[dict[str, Any]] = []

    def both() -> bool:
        seen.append(status(tmp_path)["jobs"])
        again = min(sum(t[0] == name for t in turns(tmp_path)) for name in ("refresh", "other")) >= 2
        return again and status(tmp_path)["jobs"]["refresh"].get("failures", 0) >= 2

    until(one, both)
    assert any(job["refresh"].get("failures", 0) >= 2 for job in seen if "refresh" in job)
    assert any(job["refresh"].get("words") == "refresh ended" for job in seen if "refresh" in job)
    count = one.metrics.registry.get_sample_value
    assert (count("winnow_job_runs_total", {"task": "refresh", "outcome": "failed"}) or 0) >= 1
    assert count("winnow_job_last_success_timestamp_seconds", {"task": "refresh"}) is None
    assert (count("winnow_job_last_success_timestamp_seconds", {"task": "other"}) or 0) > time.time() - 60


def test_two_jobs_never_run_at_once(tmp_path: Path) -> None:
    one = scheduler(tmp_path, refresh=(0.2, 0, 0.1, 60), other=(0.2, 0, 0.1, 60))
    until(one, lambda: len(turns(tmp_path)) >= 6)
    spans = sorted((float(began), float(ended)) for _, began, ended in turns(tmp_path))
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))
    assert {name for name, *_ in turns(tmp_path)} == {"refresh", "other"}


@pytest.mark.parametrize(("exits", "called"), [(Exit.REFUSED, "refused"), (Exit.BUSY, "busy")])
def test_a_refusal_is_no_failure(tmp_path: Path, exits: Exit, called: str) -> None:
    one = scheduler(tmp_path, refresh=(0.0, int(exits), 60, 60))
    until(one, lambda: outcome(tmp_path) == called)
    assert status(tmp_path)["jobs"]["refresh"]["failures"] == 0


def test_a_job_that_takes_too_long_is_ended_and_one_that_cannot_start_is_told(tmp_path: Path) -> None:
    one = scheduler(tmp_path, refresh=(60.0, 0, 60, 0.5))
    until(one, lambda: outcome(tmp_path) == "timed out")
    one = scheduler(tmp_path, refresh=(0.0, 0, 60, 60))
    one.program = (str(tmp_path / "nothing"),)
    one.jobs["refresh"] = one.jobs["refresh"].at(0.0)
    until(one, lambda: outcome(tmp_path) == "failed")
    assert "No such file" in status(tmp_path)["jobs"]["refresh"]["words"]


def test_after_a_retraining_the_tables_are_refreshed_at_once(tmp_path: Path) -> None:
    one = scheduler(tmp_path, refresh=(0.0, 0, 600, 60), retrain=(0.0, 0, 600, 60))
    one.jobs["retrain"] = one.jobs["retrain"].at(time.time() + 0.5)
    until(one, lambda: [t[0] for t in turns(tmp_path)] == ["refresh", "retrain", "refresh"])


def test_a_turn_that_was_stopped_goes_on_when_the_scheduler_comes_back(tmp_path: Path) -> None:
    one = scheduler(tmp_path, retrain=(60.0, 0, 600, 600))
    one.jobs["retrain"] = one.jobs["retrain"].at(0.0)
    until(one, lambda: (tmp_path / "turns.txt").exists())
    assert noted(tmp_path)[1] == "retrain"
    assert outcome(tmp_path, "retrain") == "stopped"
    until(scheduler(tmp_path, retrain=(0.0, 0, 600, 600)), lambda: "retrain ended" in words(tmp_path))
    later = scheduler(tmp_path, retrain=(0.0, 0, 600, 600))
    assert later.jobs["retrain"].due > time.time() + 500, "what is done is not done again"


def words(home: Path) -> str:
    return str(status(home)["jobs"]["retrain"].get("words", ""))


def test_a_lock_names_its_holder_and_a_killed_holder_leaves_none(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from cli.turns import alone\n"
    code += "with alone(Path(sys.argv[1]), 'retrain'): print('in', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"in\n"
    with pytest.raises(Busy, match=rf"retrain \(process {holder.pid}\)"), alone(tmp_path, "refresh"):
        pass
    with alone(tmp_path, "schedule", lock="schedule"):
        pass  # another lock
    holder.kill()
    holder.wait(10)
    with alone(tmp_path, "refresh"):
        pass


def test_sigterm_ends_the_command_and_its_job(tmp_path: Path) -> None:
    """The real command over an empty home, whose refresh fails at once; and over one whose job hangs."""
    hanging = tmp_path / "bin"
    hanging.mkdir()
    (hanging / "sitecustomize.py").write_text(
        "import sys, time\nif 'refresh' in sys.argv: print('hangs', file=sys.stderr, flush=True); time.sleep(600)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    path = os.pathsep.join([str(hanging), str(ROOT)])
    command = [sys.executable, "-m", "cli", "schedule", "--home", str(home)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        end = time.monotonic() + 60
        while not (log := home / "state" / "refresh.log").exists() or not log.read_text():
            assert time.monotonic() < end
            time.sleep(0.1)
        children = psutil.Process(process.pid).children()
        assert len(children) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not psutil.wait_procs(children, timeout=5)[1]
    finally:
        process.kill()
        process.communicate()
    assert outcome(home) == "stopped"
