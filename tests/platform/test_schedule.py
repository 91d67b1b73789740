"""The scheduler as a part of `winnow up`: a program that answers, tells how its jobs went, and ends when it is told to."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from parts.program import HOST, find, free_ports, running
from parts.schedule import schedule
from tests.training.worlds import colour_world

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(300)]
PATIENCE_S = 120.0


def test_the_scheduler_runs_outlives_a_job_that_fails_and_ends(tmp_path: Path) -> None:
    """The home has no model to refresh yet: that turn fails with a reason, and the scheduler goes on."""
    colour_world(tmp_path / "home", people=12, acts=10)
    [port] = free_ports(1)
    program = schedule(tmp_path / "schedule", tmp_path / "home", "", port)
    status = tmp_path / "home" / "state" / "schedule.json"
    with running(program) as [scheduler]:
        until = time.monotonic() + PATIENCE_S
        while "words" not in (job := refresh_in(status)) and time.monotonic() < until:
            time.sleep(0.1)
        assert (job["outcome"], job["exit"], job["failures"]) == ("failed", 1, 1)
        assert job["words"] == ("error: no retrieval model is promoted; run winnow train retrieval --promote first")
        assert job["due"] > time.time() + 600
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as page:
            assert 'winnow_job_runs_total{outcome="failed",task="refresh"} 1.0' in page.read().decode()
        assert scheduler.process.is_running()
    assert find(program) is None


def refresh_in(status: Path) -> dict[str, Any]:
    """What the scheduler has noted of that job, as far as it has come."""
    if not status.is_file():
        return {}
    job: dict[str, Any] = json.loads(status.read_text())["jobs"].get("refresh", {})
    return job
