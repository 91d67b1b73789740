"""A shop replayed in the order of time through five running processes: what they served is what their logs say, to the last
bit, and with the vector of every answer that was ranked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.known import known_in
from jobs.skew import SKEWED, main
from winnow.features import RANKER_USER
from winnow.served import Served, of_json

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
DATA = "generated:120,40,600,3"
ENOUGH = 100  # answers


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The home that was served, and what the command found."""
    folder = tmp_path_factory.mktemp("skew")
    words = ["skew", "--data", DATA, "--first", "2025-03", "--home", "home", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.platform.replaying", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return folder / "home" / "served", found


@pytest.fixture(scope="module")
def served(played: tuple[Path, dict[str, Any]]) -> list[Served]:
    files = sorted((played[0] / "decisions").rglob("*.jsonl"))
    return [of_json(line) for file in files for line in file.read_bytes().splitlines()]


def test_all_that_was_served_is_equal_to_the_last_bit(played: tuple[Path, dict[str, Any]]) -> None:
    _, found = played
    print(f"{found['equal']} of {found['compared']} answers equal, {found['vectors']} with their vector")
    assert found["answers"] == found["compared"] == found["equal"] == found["ranked"] == found["vectors"] > ENOUGH
    assert found["events"] >= found["answers"]
    assert found["items"] > 0  # prices moved meanwhile
    assert (found["skipped"], found["differing"], found["unreadable"]) == ({}, {}, {})
    assert (found["without"], found["repeated"]) == (0, 0)


def test_vectors_hold_every_feature_of_people_who_have_done_something(
    played: tuple[Path, dict[str, Any]], served: list[Served]
) -> None:
    known = known_in(played[0])
    assert len({one.request_id for one in served}) == len(served) == played[1]["answers"]
    vectors = [one.vector for one in served if one.vector is not None]
    assert all({*vector.texts, *vector.numbers} == set(RANKER_USER) for vector in vectors)
    assert sum(one.user.events > 3 for one in served) > ENOUGH / 2
    assert all(vector.catalogue is not None and vector.catalogue <= known.items for vector in vectors)
    assert len({vector.catalogue for vector in vectors}) > 1
    assert len({vector.numbers["user_mean_log_price"] for vector in vectors}) > ENOUGH / 2


def test_one_feature_that_was_served_otherwise_is_found_among_all(
    played: tuple[Path, dict[str, Any]], served: list[Served], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((played[0] / "decisions").rglob("*.jsonl"))
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    row = next(n for n, one in enumerate(served) if len(one.user.history) > 2)
    body = json.loads(lines[row])
    body["features"]["texts"]["user_last_item_1"] = ["another"]
    lines[row] = json.dumps(body).encode()
    (tmp_path / "0.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    assert main(["--home", str(played[0]), "--decisions", str(tmp_path)]) == SKEWED
    told = capsys.readouterr().out
    assert f"{len(lines) - 1:,} of {len(lines):,} answers equal" in told
    assert f"{served[row].request_id} user_last_item_1: served ('another',), recomputed" in told
