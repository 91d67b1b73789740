"""`winnow retrain`: one turn over a real registry, by models that take no time; and one whole turn that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.progress import Progress
from typer.testing import CliRunner

from cli.gate import VERDICT
from cli.main import app
from cli.models import Workshop, registry_of
from cli.turns import Exit
from tests.bundles import tiny_ranking_bundle
from tests.refreshes import append, clicks, trained
from tests.training.test_loop import steps_done
from tests.training.worlds import colour_world
from training.dataset import extent_of, load
from training.split import split
from training.train_retrieval import preset, train
from winnow.artifacts import REFRESH_OF, Bundle
from winnow.errors import Unavailable
from winnow.registry import CHALLENGER, MlflowRegistry

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]


class Trainers:
    """Stand-ins for the steps of a workshop; `seed` decides what the next training learns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seed = 0
        self.asked: list[str] = []
        self.over: list[Bundle] = []
        self.fails = False
        trainers = self

        def retrieval(workshop: Workshop, progress: Progress) -> Bundle:
            trainers.asked.append("retrieval")
            folder = workshop.home / "bundles"
            return trained(workshop.dataset, workshop.parts, folder, trainers.seed)

        def impressions(workshop: Workshop, over: Bundle, progress: Progress) -> Path:
            trainers.over.append(over)
            return workshop.home

        def ranking(workshop: Workshop, over: Bundle, shown: Path, progress: Progress) -> Bundle:
            trainers.asked.append("ranking")
            if trainers.fails:
                raise Unavailable("the disk is away")
            folder = workshop.home / f"ranking-{workshop.dataset.snapshot}-{trainers.seed}"
            return tiny_ranking_bundle(folder, workshop.dataset.items, seed=trainers.seed)

        for step in (retrieval, impressions, ranking):
            monkeypatch.setattr(Workshop, step.__name__, step)


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> Trainers:
    return Trainers(monkeypatch)


@pytest.fixture
def home(tmp_path: Path, empty_registry: Path) -> Path:
    colour_world(tmp_path / "home", people=40, acts=15)
    shutil.copy(empty_registry, tmp_path / "home")
    return tmp_path / "home"


def retrained(home: Path, *words: str, status: Exit = Exit.DONE) -> dict[str, Any]:
    ran = CliRunner().invoke(app, ["retrain", "--home", str(home), "--json", *words])
    assert ran.exit_code == status, (ran.output, ran.exception)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def champions(registry: MlflowRegistry) -> dict[str, str]:
    found = {kind: registry.champion(kind) for kind in ("retrieval", "ranking")}
    return {kind: version.number for kind, version in found.items() if version}


def test_a_turn_trains_both_and_lets_them_serve_and_the_next_learns_nothing_new(home: Path, trainers: Trainers) -> None:
    registry = registry_of(home)
    found = retrained(home)
    assert (found["outcome"], found["resumed"]) == ("promoted", False)
    assert trainers.asked == ["retrieval", "ranking"]
    assert [over.id for over in trainers.over] == [found["retrieval"]["bundle"]], "the ranker learns over its retrieval"
    assert champions(registry) == {"retrieval": "1", "ranking": "1"}
    assert not (home / "training" / "retrain.json").exists()
    assert retrained(home)["outcome"] == "unchanged"
    assert CliRunner().invoke(app, ["refresh", "--home", str(home)]).exit_code == 0
    assert champions(registry) == {"retrieval": "2", "ranking": "1"}
    again = retrained(home)
    assert again["outcome"] == "unchanged", "the champion is a refresh of what was trained"
    assert champions(registry) == {"retrieval": "2", "ranking": "1"}


def test_only_the_ranker_is_trained_over_what_serves(home: Path, trainers: Trainers) -> None:
    retrained(home)
    CliRunner().invoke(app, ["refresh", "--home", str(home)], catch_exceptions=False)
    append(home, clicks(10, 100_000, "i9"), [])
    trainers.asked.clear()
    found = retrained(home, "--only", "ranking")
    assert trainers.asked == ["ranking"]
    assert REFRESH_OF in trainers.over[-1].data
    assert "retrieval" not in found


def test_a_challenger_waits_where_it_is_told_to(home: Path, trainers: Trainers) -> None:
    registry = registry_of(home)
    retrained(home)
    trainers.seed = 1
    found = retrained(home, "--no-promote")
    assert found["retrieval"]["outcome"] == "waiting"
    assert champions(registry) == {"retrieval": "1", "ranking": "1"}
    waiting = registry.holder("retrieval", CHALLENGER)
    assert waiting is not None
    assert waiting.number == found["retrieval"]["version"] == "2"
    assert registry.notes(waiting)[VERDICT].startswith("not worse")


def test_what_is_worse_is_refused_and_the_ranker_then_learns_over_what_serves(
    home: Path, trainers: Trainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrained(home)
    trainers.seed = 1
    with monkeypatch.context() as patched:
        patched.setattr("training.gate.Measure.worse", property(lambda measure: measure.name == "recall@100"))
        found = retrained(home, status=Exit.REFUSED)
    assert (found["outcome"], found["retrieval"]["outcome"]) == ("refused", "refused")
    assert found["ranking"]["outcome"] == "promoted"
    assert champions(registry_of(home)) == {"retrieval": "1", "ranking": "2"}
    serving = registry_of(home).champion("retrieval")
    assert serving is not None
    assert trainers.over[-1].id == serving.bundle


def test_a_turn_that_failed_goes_on_with_the_log_that_it_began_with(home: Path, trainers: Trainers) -> None:
    """New events must not make a killed training begin anew: then it would never end on a busy platform."""
    began_with = load(home).snapshot
    trainers.fails = True
    ran = CliRunner().invoke(app, ["retrain", "--home", str(home)])
    assert isinstance(ran.exception, Unavailable)
    assert champions(registry_of(home)) == {}
    append(home, clicks(10, 100_000, "i9"), [])
    trainers.fails = False
    found = retrained(home)
    assert found["resumed"]
    assert found["snapshot"] == began_with != load(home).snapshot
    trainers.fails = True
    CliRunner().invoke(app, ["retrain", "--home", str(home)])
    trainers.fails = False
    assert not retrained(home, "--seed", "5")["resumed"], "another plan is another turn"


@pytest.mark.slow
def test_a_retrain_that_is_killed_and_begun_again_ends_as_if_it_had_not_been(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """SIGKILL in the middle of the towers, events arrive, the same command again: the bundle of the log as it was. All
    on one thread: another number of them adds up in another order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(1)
    before, extent = load(home), extent_of(home)
    command = [sys.executable, "-m", "cli", "retrain", "--only", "retrieval", "--home", str(home)]
    checkpoint = home / "training" / "retrieval-quick-0.ckpt"
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 120
    while not steps_done(checkpoint) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    done = steps_done(checkpoint)
    assert done > 0
    append(home, clicks(10, 100_000, "i9"), [])
    assert load(home, extent).snapshot == before.snapshot
    found = retrained(home, "--only", "retrieval")
    assert (found["resumed"], found["snapshot"]) == (True, before.snapshot)

    whole = train(before, split(before, "serve"), preset("quick"), tmp_path / "whole")
    assert whole is not None
    assert found["retrieval"]["bundle"] == whole.id
    assert found["retrieval"]["outcome"] == "promoted"
