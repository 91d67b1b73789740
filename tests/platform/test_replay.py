"""A replay with real models: killed, it goes on and finds the same; what comes later changes no model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli.console import bars
from cli.replay import Run
from tests.training.shops import MONTHS, shop
from training.past import Past
from training.replay import Month

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
DATA = "generated:120,40,3000,3"
TWO_MONTHS = ["replay", "--data", DATA, "--first", "2025-03", "--months", "2", "--json"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """`winnow replay` with `folder` as the working folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cli", *TWO_MONTHS, "--home", "home"]
    with (folder / "errors.txt").open("ab") as errors:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors)


def finished(replay: subprocess.Popen[bytes]) -> dict[str, Any]:
    words, _ = replay.communicate(timeout=240)
    assert replay.returncode == 0
    found: dict[str, Any] = json.loads(words)
    return found


def killed_when(replay: subprocess.Popen[bytes], appears: Path) -> None:
    """SIGKILL at the moment that a file is there."""
    deadline = time.monotonic() + 240
    while not appears.exists():
        assert replay.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    replay.kill()
    replay.communicate(timeout=10)


def figures(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "seconds"}


def test_a_replay_that_was_killed_goes_on_and_finds_the_same(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    uninterrupted = finished(start(whole))
    april = broken / "home" / "2025-04"
    killed_when(start(broken), april / "stamps" / "retrieval-serve-quick-0.json")
    march = (broken / "home" / "2025-03" / "stamps" / "retrieval-serve-quick-0.json").stat().st_mtime_ns
    assert not (april / "stamps" / "month-2025-03-quick-0.json").exists()
    resumed = finished(start(broken))
    assert figures(resumed) == figures(uninterrupted)
    assert (broken / "home" / "2025-03" / "stamps" / "retrieval-serve-quick-0.json").stat().st_mtime_ns == march
    first, second = resumed["months"]
    assert first["hr@20"]["retrained"] == first["hr@20"]["never"]
    assert first["bundles"] != second["bundles"]
    assert second["hr@20"]["retrained"] > second["hr@20"]["popularity"]
    for folder in (whole, broken):
        assert json.loads((folder / "build" / "replay.json").read_text("utf-8"))
    pictures = [next((folder / "build").glob("replay-*.svg")).read_bytes() for folder in (whole, broken)]
    assert pictures[0] == pictures[1]
    assert b"never retrained" in pictures[0]


def test_what_comes_later_changes_no_model(tmp_path: Path) -> None:
    """The first models of two logs that are the same until then."""
    march, trained = Month(2025, 3), []
    for name, plant in (("as it was", float("inf")), ("otherwise", MONTHS[2])):
        past = Past(shop(tmp_path / name / "whole", people=16, baskets=3, plant=plant))
        run = Run(past, tmp_path / name, name, "quick", 0, march)
        with bars(disable=True) as progress:
            trained.append(run.month(march, progress).result)
    assert trained[0]["bundles"] == trained[1]["bundles"]
    assert trained[0]["hr@20"] != trained[1]["hr@20"]
