"""Exponents, worlds and steps of the benchmark that grows."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.capacity.figures import Measurements
from bench.scale import main as scale
from bench.scale import steps
from bench.scale.growth import growth, per_million
from bench.scale.plot import drawn
from bench.scale.steps import STEPS, Measured, clustered
from bench.scale.worlds import LONG, name_of, named, worlds, written
from training.data.generated import World
from winnow.errors import NotFound

ROOT = Path(__file__).resolve().parents[3]
SIZES = [3e4, 1e5, 3e5, 1e6]
TINY = World(items=300, people=60, events=3_000)


@given(st.floats(0.0, 2.0), st.floats(1e-6, 1e3))
def test_the_exponent_of_a_power_law_is_found(exponent: float, factor: float) -> None:
    found = growth(SIZES, [factor * n**exponent for n in SIZES])
    assert found.exponent == pytest.approx(exponent, abs=1e-6)
    assert found.last == pytest.approx(exponent, abs=1e-6)


def test_n_log_n_is_fine_and_what_is_worse_is_not() -> None:
    assert growth(SIZES, [n * math.log(n) for n in SIZES]).fine
    assert growth(SIZES, [5 + 1e-5 * n for n in SIZES]).fine
    assert not growth(SIZES, [n**1.4 for n in SIZES]).fine
    assert not growth(SIZES, [100 + 1e-9 * n**2 for n in SIZES]).fine, "a start-up cost hides the rest from the mean"


@pytest.mark.parametrize(("sizes", "costs"), [([1e3], [1.0]), ([1e3, 1e3], [1.0, 1.0]), ([1e3, 1e4], [0.0, 1.0])])
def test_too_little_says_nothing(sizes: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="two sizes"):
        growth(sizes, costs)


def test_memory_is_told_apart_by_what_takes_it() -> None:
    rng = np.random.default_rng(0)
    items, users, events = (rng.integers(1_000, 10**6, 8) for _ in range(3))
    memory_mb = 120 + items * 2e-3 + users * 5e-4 + events * 1e-5
    found = per_million(list(items), list(users), list(events), list(memory_mb))
    assert found == pytest.approx({"empty": 120, "items": 2_000, "users": 500, "events": 10}, rel=1e-6)


def test_worlds_grow_to_what_was_asked_for() -> None:
    assert [world.events for world in worlds(1_000_000)] == [30_000, 100_000, 300_000, 1_000_000]
    assert worlds(1) == worlds(30_000)
    assert worlds(LONG)[-1].events == LONG
    assert all(named(name_of(world)) == world for world in worlds(LONG))


def test_clustered_vectors_have_length_one_and_neighbours() -> None:
    vectors, people = clustered(500, np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors.shape == (500, 128)
    assert (people @ vectors.T).max(axis=1).mean() > 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale") / name_of(TINY)
    written(TINY, folder)
    STEPS["ingest"](folder, Measured())
    return folder


def test_ingest_counts_what_the_world_has(folder: Path) -> None:
    told = json.loads((folder / "home" / "dataset.json").read_text())
    assert (told["events"], told["items"], told["users"]) == (3_000, 300, 60)


@pytest.mark.parametrize("step", ["load", "features", "index", "request"])
def test_every_step_takes_time(folder: Path, step: str) -> None:
    measured = Measured()
    STEPS[step](folder, measured)
    assert measured.seconds > 0


def test_a_step_of_training_is_the_time_of_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WARM_STEPS", 1)
    monkeypatch.setattr(steps, "TRAINED_STEPS", 1)
    measured = Measured()
    STEPS["train"](folder, measured)
    assert 0 < measured.cpu_s < 5


def test_a_step_that_fails_says_why_and_ends_its_world_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(scale.StepFailed, match=r"ingest: .*no data set"):
        scale.step("ingest", tmp_path)
    monkeypatch.setattr(scale, "STEP_S", 0.01)
    with pytest.raises(scale.StepFailed, match=r"not done after 0\.01 s"):
        scale.step("ingest", tmp_path)


def test_the_plot_is_an_svg_and_always_the_same(tmp_path: Path) -> None:
    points = {"ingest": [(3e4, 1.0, 200.0), (3e5, 9.0, 260.0)], "index": [(3e3, 0.1, 90.0)]}
    drawn(points, scale.GROWS_WITH, tmp_path / "a.svg")
    drawn(points, scale.GROWS_WITH, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "ingest, by events" in (tmp_path / "a.svg").read_text()


def test_only_indexes_of_one_kind_are_held_against_each_other() -> None:
    run = scale.Scale(Console())
    run.exact = {1e3: True, 1e4: True, 1e5: False, 1e6: False}
    run.points["index"] = [(1e3, 1e-3, 1.0), (1e4, 1e-2, 1.0), (1e5, 10.0, 1.0), (1e6, 100.0, 1.0)]
    assert run.grown()["index"].exponent == pytest.approx(1.0)
    run.points["index"].pop()
    assert run.grown() == {}, "two exact ones that take no time, and one of another kind"


def test_worlds_that_only_tell_people_from_events_are_not_held_against_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scale, "step", lambda what, folder: {"seconds": 1.0, "cpu_s": 1.0, "peak_mb": 1.0})
    monkeypatch.setattr(scale, "feature_rss_mb", lambda home, logs: 100.0)
    run = scale.Scale(Console(quiet=True))
    run.world(TINY, ["ingest"])
    run.world(World(items=300, people=600, events=9_000), ["ingest"], of_the_ladder=False)
    assert run.points["ingest"] == [(TINY.events, 1.0, 1.0)]
    assert len(run.memory) == 2


def test_a_second_world_of_as_many_items_counts_by_its_events_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its people are others and more, so a step over its items is no step further up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scale, "step", lambda what, folder: {"seconds": 1.0, "cpu_s": 1.0, "peak_mb": 1.0})
    monkeypatch.setattr(scale, "SERVED", TINY.events)
    served: list[Path] = []
    monkeypatch.setattr(scale, "feature_rss_mb", lambda home, logs: served.append(home) or 100.0)
    run = scale.Scale(Console(quiet=True))
    for world in (TINY, World(TINY.items, TINY.items, 10 * TINY.events)):
        run.world(world, ["load", "train"])
    assert [size for size, *_ in run.points["load"]] == [TINY.events, 10 * TINY.events]
    assert [size for size, *_ in run.points["train"]] == [TINY.items]
    assert len(served) == len(run.memory) == 1, "the larger one is not served"


def run_with(monkeypatch: pytest.MonkeyPatch, folder: Path, exponent: float, fails: bool = False) -> int:
    """`python -m bench.scale --plot` in `folder`, where every step takes n ** exponent microseconds."""

    def measured(what: str, place: Path) -> dict[str, float]:
        world = named(place.name)
        if fails and what == "load" and world.events == 100_000:
            raise scale.StepFailed("load: no memory")
        size = float(getattr(world, scale.GROWS_WITH.get(what, "events")))
        found = {"seconds": size * 2e-6, "cpu_s": size**exponent * 1e-6, "peak_mb": 100 + size / 1e4}
        return found | ({"bytes_per_item": 520.0, "exact": 1.0} if what == "index" else {})

    monkeypatch.chdir(folder)
    monkeypatch.setattr(scale, "step", measured)
    monkeypatch.setattr(scale, "feature_rss_mb", lambda home, logs: 100.0 + named(home.parent.name).items / 1e3)
    return scale.main(["--most", "1000000", "--plot"])


def test_a_run_leaves_its_figures_and_says_what_grows_too_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, tmp_path, 1.6) == 1
    figures = json.loads((tmp_path / "build" / "bench-scale.json").read_text())
    assert figures["scale.growth.ingest.exponent"] == pytest.approx(1.6, abs=1e-3)
    assert figures["scale.100000-20000-1000000.ingest.events_per_s"] == pytest.approx(500_000)
    assert figures["scale.memory.feature.items_mb"] == pytest.approx(1_000, rel=0.01)
    assert "worse" in capsys.readouterr().out
    assert (tmp_path / "docs" / "scaling.svg").is_file()
    assert not (tmp_path / "build" / "scale").exists()


def test_what_failed_fails_the_run_and_nothing_computes_with_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, tmp_path, 1.0, fails=True) == 1
    printed = capsys.readouterr().out
    assert "10000-2000-100000: load: no memory" in printed
    assert "make capacity does not use this run" in printed
    figures = json.loads((tmp_path / "build" / "scale-incomplete.json").read_text())
    assert "scale.10000-2000-100000.ingest.cpu_s" in figures
    assert "scale.10000-2000-100000.index.cpu_s" not in figures, "a world ends with the step that failed"
    about = json.loads((tmp_path / "build" / "scale-incomplete.machine.json").read_text())
    assert about["wrong"] == ["10000-2000-100000: load: no memory"]
    assert not (tmp_path / "docs" / "scaling.svg").exists()
    with pytest.raises(NotFound, match="`make bench-scale` measures it"):
        Measurements.read(tmp_path / "build", tmp_path / "absent.json").get("scale.memory.feature.items_mb")
    assert run_with(monkeypatch, tmp_path, 1.0) == 0
    assert sorted(file.name for file in (tmp_path / "build").iterdir()) == [
        "bench-scale.json",
        "bench-scale.machine.json",
    ]


@pytest.mark.parametrize(
    ("words", "at"),
    [
        (["--steps", "ingest", "train"], "bench.scale.steps train"),
        (["--steps", "ingest", "--no-memory"], "services.feature"),
    ],
)
def test_ctrl_c_ends_what_was_started_keeps_what_was_measured_and_says_so(
    tmp_path: Path, words: list[str], at: str
) -> None:
    """By the real signal, to the benchmark alone, while a step or a service runs."""
    build = tmp_path / "build"
    build.mkdir()
    (build / "bench-scale.json").write_text('{"scale.memory.feature.users_mb": 7.0}')
    command = [sys.executable, "-c", ONE_TINY_WORLD, *words]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=-1, stderr=-1, text=True) as run:
        started = until_runs(psutil.Process(run.pid), at)
        run.send_signal(signal.SIGINT)
        printed, complaints = run.communicate(timeout=60)
    assert run.returncode == 130
    assert complaints == ""
    said = [line for line in printed.splitlines() if line.startswith("stopped; ")]
    assert said == [
        "stopped; what was measured is in build/scale-incomplete.json, and the worlds that were made stay in build/scale"
    ]
    assert printed.splitlines()[-1] == said[0]
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert "scale.300-60-3000.ingest.seconds" in json.loads((build / "scale-incomplete.json").read_text())
    measured = Measurements.read(build, tmp_path / "absent.json")
    assert measured.get("scale.memory.feature.users_mb") == 7.0
    with pytest.raises(NotFound):
        measured.get("scale.300-60-3000.ingest.seconds")


ONE_TINY_WORLD = """
import sys
from bench.scale import main as scale
from training.data.generated import World
scale.worlds = lambda most: [World(items=300, people=60, events=3_000)]
sys.exit(scale.main(sys.argv[1:]))
"""


def until_runs(process: psutil.Process, words: str) -> list[psutil.Process]:
    """All that the process has started, once one of them was started by these words and is at work: by then its parent
    knows of it."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        started = process.children(recursive=True)
        with suppress(psutil.NoSuchProcess):
            if any(words in " ".join(one.cmdline()) and one.cpu_times().user > 0.1 for one in started):
                return started
        time.sleep(0.02)
    raise AssertionError(f"nothing ran {words}")
