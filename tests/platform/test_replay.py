"""A replay as a whole: killed, it goes on and finds the same; what it trains knows nothing of later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cli.console import bars
from cli.replay import Run
from tests.platform.replaying import HANG, HANGING
from tests.training.shops import MONTHS, PER_MONTH, shop
from training.past import Past
from training.replay import Month
from winnow.artifacts import open_bundle

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
REPLAY = ["replay", "--data", "generated:120,40,3000,3", "--first", "2025-03", "--months", "3", "--home", "home"]
STAMP = "stamps/month-2025-03-quick-0.json"


def start(folder: Path) -> subprocess.Popen[bytes]:
    """`winnow replay` with `folder` as the working folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.platform.replaying", *REPLAY, "--json"]
    with (folder / "errors.txt").open("ab") as errors:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors)


def finished(folder: Path) -> dict[str, Any]:
    replay = start(folder)
    words, _ = replay.communicate(timeout=240)
    assert replay.returncode == 0, (folder / "errors.txt").read_text("utf-8")
    found: dict[str, Any] = json.loads(words)
    found.pop("seconds")
    return found


def killed_when(replay: subprocess.Popen[bytes], appears: Path) -> None:
    """SIGKILL once a file is there."""
    deadline = time.monotonic() + 240
    while not appears.exists():
        assert replay.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    replay.kill()
    replay.communicate(timeout=10)


def test_a_replay_that_was_killed_goes_on_and_finds_the_same(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    home = broken / "home"
    for folder in (whole, home):
        folder.mkdir(parents=True)
    (home / HANG).touch()
    killed_when(start(broken), home / HANGING)
    march = (home / "2025-03" / STAMP).stat().st_mtime_ns
    assert not (home / "2025-04" / STAMP).exists()
    (home / HANG).unlink()
    resumed = finished(broken)
    assert (home / "2025-03" / STAMP).stat().st_mtime_ns == march
    assert resumed == finished(whole)
    first, *later = resumed["months"]
    assert [month["month"] for month in resumed["months"]] == ["2025-03", "2025-04", "2025-05"]
    assert first["hr@20"]["retrained"] == first["hr@20"]["never"]
    assert all(month["ndcg@20"]["retrained"] != month["ndcg@20"]["never"] for month in later)
    reports = [json.loads((folder / "build" / "replay.json").read_text("utf-8")) for folder in (whole, broken)]
    assert [next(iter(report.values()))["months"] for report in reports] == [resumed["months"]] * 2
    pictures = [next((folder / "build").glob("replay-*.svg")).read_text("utf-8") for folder in (whole, broken)]
    assert pictures[0] == pictures[1]
    for words in ("HR@20 of the next basket", "month of the basket", "never retrained", "2025-05"):
        assert words in pictures[0]


@pytest.mark.slow
def test_models_hold_nothing_of_later(tmp_path: Path) -> None:
    """Ids, statistics, neighbours and the moment they are of, in the bundles of a real training."""
    past = Past(shop(tmp_path / "whole", people=16, baskets=3, plant=MONTHS[2]))
    march, known = Month(2025, 3), {f"i{n}" for n in range(2 * PER_MONTH)}
    with bars(disable=True) as progress:
        found = Run(past, tmp_path, "shop", "quick", 0, march).month(march, progress).result
    bundle = open_bundle(tmp_path / "2025-03" / "bundles" / found["bundles"]["retrieval"], "retrieval")
    stats = pq.read_table(bundle.file("stats.parquet")).to_pydict()
    assert set(json.loads(bundle.file("item_ids.json").read_text("utf-8"))) == set(stats["item_id"]) == known
    assert bundle.facts["stats_at"] < MONTHS[2]
    assert sum(stats["count"]) == bundle.data["acts"] < found["acts"] == (past.whole.acts.at < MONTHS[2]).sum()
    for table in ("follows", "together"):
        assert np.load(bundle.file(f"{table}_rows.npy")).shape[0] == len(known)
    ranking = open_bundle(tmp_path / "2025-03" / "bundles" / found["bundles"]["ranking"], "ranking")
    assert "planted" not in ranking.file("vocabularies.json").read_text("utf-8")
