"""`winnow demo` from a folder of CSV files to answers; then again, with nothing left to do but to serve."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tests.homes import PATIENT
from winnow.registry import MlflowRegistry

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(900)]

START = datetime(2025, 1, 1, tzinfo=UTC)
GENRES = ("Comedy", "Drama", "War", "Musical")
ITEMS, PEOPLE, LIGHT, HEAVY = 60, 30, 8, 40
COMMAND = [sys.executable, "-m", "cli", "demo", "--data", "data/films"]


def films(folder: Path) -> dict[str, set[str]]:
    """Ratings of a few films, most of each person's favourite genre; returns what each person saw."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True)
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title", "categories"])
        rows.writerows([f"f{n}", f"Film number {n}", GENRES[n % 4]] for n in range(ITEMS))
    seen: dict[str, set[str]] = {}
    with (folder / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "type", "occurred_at", "value"])
        minute = 0
        for person in range(PEOPLE):
            liked = np.where(np.arange(ITEMS) % 4 == person % 4, 6.0, 1.0)
            number = HEAVY if person == 0 else LIGHT if person == 1 else int(rng.integers(12, 30))
            chosen = rng.choice(ITEMS, number, replace=False, p=liked / liked.sum())
            seen[f"p{person}"] = {f"f{n}" for n in chosen}
            for n in chosen:
                minute += 7
                at = (START + timedelta(minutes=minute)).isoformat()
                rows.writerow([f"p{person}", f"f{n}", "rating", at, 5 if n % 4 == person % 4 else 3])
    return seen


def environment() -> dict[str, str]:
    """Without what the caller's shell may say of other homes; training on one thread, as tests run beside others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WINNOW_")}
    return kept | PATIENT | {"OMP_NUM_THREADS": "1"}


def told(place: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((place / "build" / "demo.json").read_text(encoding="utf-8"))
    return document


def test_a_newcomer_gets_from_a_folder_to_answers_and_the_second_time_at_once(tmp_path: Path) -> None:
    seen = films(tmp_path / "data" / "films")
    ran = subprocess.run(
        [*COMMAND, "--once"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    check_answers(told(tmp_path), seen)
    check_registry(tmp_path / "build" / "homes" / "films")
    check_again(tmp_path)


def check_answers(story: dict[str, Any], seen: dict[str, set[str]]) -> None:
    people = story["users"]
    assert {role: person["user_id"] for role, person in people.items()} == {
        "heavy": "p0",
        "light": "p1",
        "unknown": "newcomer-0",
    }
    for person in people.values():
        assert len(set(person["item_ids"])) == 10
        assert not set(person["item_ids"]) & seen.get(person["user_id"], set())
        assert all(person["titles"])
        assert all(person["reasons"])
        assert all(person["sources"])
        assert all(0 <= one["click"] <= 1 and 0 <= one["convert"] <= 1 for one in person["predictions"])
        assert person["scores"] == sorted(person["scores"], reverse=True)
    assert len({tuple(person["item_ids"]) for person in people.values()}) == 3
    assert story["skipped"] == []
    assert story["already_done"] == []
    assert set(story["seconds"]) == {
        *("ingest", "train_retrieval", "impressions", "train_ranking", "promote", "answers", "total"),
    }


def check_registry(home: Path) -> None:
    registry = MlflowRegistry(f"sqlite:///{home}/mlflow.db", home / "state" / "bundles")
    for kind in ("retrieval", "ranking"):
        champion = registry.champion(kind)
        assert champion is not None
        assert (registry.fetch(champion) / "manifest.json").is_file()


def check_again(place: Path) -> None:
    """Once more, serving until Ctrl-C: every step is skipped, REST answers, and nothing is left running."""
    out = place / "out.txt"
    with out.open("wb") as stream:
        demo = subprocess.Popen(COMMAND, cwd=place, env=environment(), stdout=stream, stderr=subprocess.STDOUT)
    try:
        addresses = wait_for_addresses(out, demo)
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 1, "MLflow's server"
        answer = httpx.get(f"http://{addresses['REST']}/v1/recommendations?user_id=p0&n=3", timeout=10).json()
        assert len(answer["items"]) == 3
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, out.read_text()
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait(10)
    assert told(place)["already_done"] == ["ingest", "retrieval", "impressions", "ranking", "promote"]


def wait_for_addresses(out: Path, demo: subprocess.Popen[bytes], timeout_s: float = 300.0) -> dict[str, str]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and demo.poll() is None:
        text = out.read_text()
        if "Ctrl-C ends" in text:
            return dict(re.findall(r"^(REST|gRPC|MLflow) +(?:http://)?([\d.:]+)", text, re.MULTILINE))
        time.sleep(0.2)
    raise AssertionError(out.read_text())
