"""The whole platform on its real parts, as `winnow up` starts it: an event travels, a promotion arrives, all of it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner

from cli.main import app
from jobs.event_files import finished
from parts.program import find
from parts.stack import PARTS, Stack
from tests.bundles import tiny_ranking_bundle
from tests.otlp import Collector, Seen, collecting
from tests.platform.conftest import platform_home
from training.dataset import load
from winnow.errors import FailedPrecondition
from winnow.registry import MlflowRegistry

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(400)]
PATIENCE_S = 150.0


@dataclass(frozen=True)
class Up:
    stack: Stack
    home: Path
    collector: Collector

    @property
    def rest(self) -> str:
        return f"http://{self.stack.address('rest')}"

    def ask(self, user: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.rest}/v1/recommendations?user_id={user}&n=5", timeout=10)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home, folder = platform_home(tmp_path_factory.mktemp("up") / "home"), tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as patch, collecting() as collector:
        patch.setattr("cli.up.FOLDER", folder)
        patch.setenv("WINNOW_OTLP_ENDPOINT", collector.endpoint)
        patch.setenv("WINNOW_TRACE_SAMPLE", "0")
        try:
            started = CliRunner().invoke(app, ["up", "--home", str(home)], catch_exceptions=False)
            assert started.exit_code == 0, started.output
            stack = Stack.noted(folder)
            assert stack is not None
            yield Up(stack, home, collector)
        finally:
            CliRunner().invoke(app, ["down"], catch_exceptions=False)


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def test_every_part_answers_and_so_does_the_platform(up: Up) -> None:
    programs = {program.name: program for program in up.stack.programs()}
    assert set(programs) >= {*PARTS, "gateway", "feature", "retrieval", "ranking", "explanation"}
    for name, program in programs.items():
        assert eventually(lambda ready=program.ready: ready() == ""), f"{name}: {program.ready()}"  # type: ignore[misc]
    assert eventually(lambda: up.ask("p1")["skipped"] == [])
    assert len({item["item_id"] for item in up.ask("p1")["items"]}) == 5


def test_models_run_on_triton(up: Up) -> None:
    loaded = httpx.post(f"http://{up.stack.address('triton_http')}/v2/repository/index", json={}, timeout=10).json()
    ready = [model["name"] for model in loaded if model.get("state") == "READY"]
    assert any("cross" in name for name in ready), loaded
    assert any("user_tower" in name for name in ready), loaded


def test_what_runs_is_not_started_again_and_another_home_is_refused(up: Up, tmp_path: Path) -> None:
    assert Stack.planned(up.stack.folder, up.home) == up.stack
    with pytest.raises(FailedPrecondition, match="make down"):
        Stack.planned(up.stack.folder, tmp_path)


def test_an_event_reaches_sparks_files_and_its_trace_the_batch_that_wrote_them(up: Up) -> None:
    event = {"event_id": "travels-1", "type": "click", "item_id": "i1", "user_id": "p1"}
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    header = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    httpx.post(f"{up.rest}/v1/events", json=event, headers=header, timeout=10).raise_for_status()
    assert eventually(lambda: "travels-1" in raw_events(up.home)), sorted(up.home.rglob("*.parquet"))[:20]
    assert eventually(lambda: way_of("stream", up.collector.of(trace))[:1] == [("gateway", "POST /v1/events")])
    assert way_of("stream", up.collector.of(trace)) == [
        ("gateway", "POST /v1/events"),
        ("gateway", "record"),
        ("gateway", "winnow.v1.FeatureService/Record"),
        ("feature", "winnow.v1.FeatureService/Record"),
        ("feature", "send winnow.events"),
        ("stream", "process winnow.events"),
    ]


def way_of(service: str, spans: list[Seen]) -> list[tuple[str, str]]:
    """From the service's first span up to where nothing is known any more, the other way round."""
    known, way = {span.span_id: span for span in spans}, list[Seen]()
    place = next((span for span in spans if span.service == service), None)
    while place is not None:
        way.insert(0, place)
        place = known.get(place.parent_id)
    return [(span.service, span.name) for span in way]


def raw_events(home: Path) -> set[str]:
    """What Spark has finished writing."""
    files = [str(file) for file in finished(home / "spark" / "events")]
    return set(ds.dataset(files).to_table(columns=["event_id"])["event_id"].to_pylist()) if files else set()


def test_a_promotion_in_mlflow_serves_seconds_later(up: Up, tmp_path: Path) -> None:
    registry = MlflowRegistry(f"http://{up.stack.address('mlflow')}", tmp_path / "cache")
    folder = tmp_path / "ranking"
    folder.mkdir()
    bundle = tiny_ranking_bundle(folder, load(up.home).items, seed=9)
    registry.promote(registry.register(bundle))
    assert eventually(lambda: up.ask("p1")["bundles"].get("ranking") == bundle.id)


def test_down_leaves_nothing_running(up: Up) -> None:
    processes = [running.process for program in up.stack.programs() if (running := find(program))]
    children = [child for process in processes for child in process.children(recursive=True)]
    assert len(processes) == len(up.stack.programs())
    assert CliRunner().invoke(app, ["down"], catch_exceptions=False).exit_code == 0
    left = psutil.wait_procs([*processes, *children], timeout=10)[1]
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
