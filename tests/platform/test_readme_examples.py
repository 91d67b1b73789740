"""The README's curl commands, sent as they stand to a platform that runs."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.processes import Platform, running
from tests.unit.test_readme import ROOT, commands

WRITTEN = "http://127.0.0.1:8080"
CURLS = [command for command in commands(ROOT / "README.md") if command.startswith("curl ")]


@pytest.fixture(scope="module")
def platform(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform over a copy of the home, because the examples write; item 50 is there as in MovieLens."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(served_home / "log", folder / "home" / "log")
    shutil.copy(served_home / "dataset.json", folder / "home")
    registry = {"WINNOW_MLFLOW_URI": f"sqlite:///{served_home}/mlflow.db"}
    with running(folder / "home", "one_process", folder / "logs", registry) as platform:
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
