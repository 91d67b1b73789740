"""The README's curl commands, sent as they stand to a platform that runs."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from bench.processes import Platform, running
from cli.main import app
from tests.homes import PATIENT
from tests.unit.test_readme import ROOT, commands

WRITTEN = "http://127.0.0.1:8080"
CURLS = [command for command in commands(ROOT / "README.md") if command.startswith("curl ")]


@pytest.fixture(scope="module")
def place(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home, because the examples write; the registry stays where it is."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(served_home / "log", folder / "home" / "log")
    shutil.copy(served_home / "dataset.json", folder / "home")
    return folder / "home"


@pytest.fixture(scope="module")
def registry(served_home: Path) -> str:
    return f"sqlite:///{served_home}/mlflow.db"


@pytest.fixture(scope="module")
def platform(place: Path, registry: str) -> Iterator[Platform]:
    """A platform over the copy; item 50 is there as in MovieLens."""
    with running(place, "one_process", place.parent / "logs", PATIENT | {"WINNOW_MLFLOW_URI": registry}) as platform:
        there = f"http://127.0.0.1:{platform.rest}/v1/items/50"
        httpx.put(there, json={"title": "Star Wars (1977)", "categories": ["Action"]}, timeout=10).raise_for_status()
        deadline = time.monotonic() + 10
        while httpx.get(there, timeout=10).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        yield platform


def sent(command: str, rest: int) -> httpx.Response:
    """What curl would send: -X, -H, -d and one address."""
    words = iter(shlex.split(command)[1:])
    method, headers, body, address = "", {}, None, ""
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d":
                body = next(words)
            case _:
                address = word
    assert address.startswith(WRITTEN), command
    to = address.replace(WRITTEN, f"http://127.0.0.1:{rest}")
    return httpx.request(method or ("POST" if body else "GET"), to, headers=headers, content=body, timeout=10)


@pytest.mark.platform
def test_every_example_is_answered(platform: Platform) -> None:
    assert len(CURLS) >= 10
    for command in CURLS:
        answer = sent(command, platform.rest)
        assert answer.status_code == 200, f"{command}\n{answer.text}"


@pytest.mark.platform
def test_the_answer_has_the_fields_that_the_readme_shows(platform: Platform) -> None:
    answer = sent(CURLS[0], platform.rest).json()
    assert {"request_id", "items", "bundles", "variant", "skipped", "watermark", "took_ms"} <= set(answer)
    assert {"item_id", "rank", "score", "predictions", "sources", "reason", "item"} <= set(answer["items"][0])
    assert len(answer["items"]) == 10


@pytest.mark.platform
def test_the_command_line_gets_the_same_answer_over_rest_and_grpc(platform: Platform) -> None:
    def asked(*where: str) -> list[str]:
        shown = CliRunner().invoke(app, ["recommend", "--user", "u1", "-n", "7", "--json", *where])
        assert shown.exit_code == 0, shown.output
        return [line["item_id"] for line in json.loads(shown.stdout)["items"]]

    over_rest = asked("--url", f"http://127.0.0.1:{platform.rest}")
    assert len(over_rest) == 7
    assert asked("--grpc", f"127.0.0.1:{platform.grpc}") == over_rest


@pytest.mark.platform
def test_a_request_can_be_traced_beside_a_platform_that_serves_the_home(
    platform: Platform, place: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (PATIENT | {"WINNOW_MLFLOW_URI": registry}).items():
        monkeypatch.setenv(name, value)
    words = ["trace", "--user", "u1", "--home", str(place)]
    traced = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [stage["stage"] for stage in traced["stages"]] == [
        "feature",
        "retrieval",
        "ranking",
        "arrange",
        "explanation",
    ]
    assert all(stage["ms"] > 0 and stage["items"] > 0 and len(stage["first"]) == 5 for stage in traced["stages"])
    ranked, arranged = traced["stages"][2]["first"], traced["stages"][3]["first"]
    assert [line["item_id"] for line in ranked] == [line["item_id"] for line in arranged]
    assert traced["answer"]["skipped"] == []
    table = CliRunner().invoke(app, words).output
    assert all(stage["first"][0]["title"] in table for stage in traced["stages"])
