"""A replay through running platforms with Redis and a broker: nothing that was told is missing in the log, no answer lacks
it, and what the monthly turn promoted is what answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training.past import Past
from training.replay import Month, asked_in, months
from winnow import segments
from winnow.canonical import EVENTS
from winnow.home import events_folder

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = 6
WORDS = ["replay", "--live", "--data", "generated:120,40,3000,3", "--first", "2025-04", "--months", "2"]


def test_both_platforms_are_told_everything_and_one_is_retrained(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.platform.replaying", *WORDS, "--people", str(PEOPLE), "--home", "home"]
    done = subprocess.run(
        [*command, "--without", "mlflow,triton,spark", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    past = Past(tmp_path / "home" / "whole")
    april, may = months(past.whole, Month(2025, 4), 2)
    people = sum(min(PEOPLE, len(asked_in(past.whole, month))) for month in (april, may))
    for name, arm in found["live"].items():
        home = tmp_path / "home" / "live" / name / "home"
        ids = segments.whole(events_folder(home), EVENTS)["event_id"].to_pylist()
        told = {*segments.whole(events_folder(tmp_path / "home" / "whole"), EVENTS)["event_id"].to_pylist()}
        assert len(ids) == len({*ids}), "each event once"
        assert {*ids} <= told
        assert (arm["answers"], arm["behind"], arm["skipped"]) == (people, 0, {})
        assert arm["events"] > 0
    assert set(found["live"]["retrained"]["turns"]) == {str(may)}
    assert found["live"]["never"]["turns"] == {}
    first, second = found["months"]
    assert first["hr@20"]["retrained"] == first["hr@20"]["never"]
    assert second["people"] == PEOPLE
    assert found["overall"]["people"] == PEOPLE
