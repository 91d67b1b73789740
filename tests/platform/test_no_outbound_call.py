"""The platform needs nobody outside: alone on its machine it starts, answers in full, and calls no one."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from bench.processes import Platform, Wiring, running
from parts.program import HOST
from tests.homes import copy_of, registry_of
from tests.networks import NAMESERVER, Alone, alone

OUTSIDE = "192.0.2.80"
QUIETING = ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY")
SETTINGS = {
    # What is proved is who is called, not how fast: a busy machine must not make a stage late.
    "WINNOW_FEATURE_BUDGET_MS": "10000",
    "WINNOW_RETRIEVAL_BUDGET_MS": "10000",
    "WINNOW_RANKING_BUDGET_MS": "10000",
    "WINNOW_EXPLANATION_BUDGET_MS": "10000",
}
SETTLED_S = 30.0  # readiness does not wait for what only reasons need

pytestmark = pytest.mark.platform


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask libraries in the environment to keep quiet: Winnow does."""
    for name in QUIETING:
        monkeypatch.delenv(name, raising=False)


def used(http: httpx.Client) -> None:
    """What people do with a platform: every answer is whole."""
    body = {"user_id": "u1", "n": 10}
    until = time.monotonic() + SETTLED_S
    while (answer := http.post("/v1/recommendations", json=body).raise_for_status().json())["skipped"]:
        assert time.monotonic() < until, answer["skipped"]
        time.sleep(0.2)
    assert len(answer["items"]) == 10
    assert any(line["reason"] for line in answer["items"])
    seen = answer["items"][0]["item_id"]
    event = {"event_id": "alone-1", "type": "purchase", "item_id": seen, "user_id": "u1"}
    assert http.post("/v1/events", json=event).raise_for_status().json()["accepted"] == 1
    after = http.post("/v1/recommendations", json=body).raise_for_status().json()
    assert after["skipped"] == []
    assert after["watermark"] > answer["watermark"]
    for path in ("/v1/trending?n=5", f"/v1/items/{seen}/similar?n=5", "/docs", "/openapi.json", "/metrics"):
        http.get(path).raise_for_status()


def asked(platform: Platform) -> httpx.Client:
    return httpx.Client(base_url=f"http://{HOST}:{platform.rest}", timeout=30, trust_env=False)


def platform(served_home: Path, folder: Path, wiring: Wiring) -> Callable[[Alone], list[str]]:
    """Start, use and end a platform of its own; says where anything tried to go."""
    home = copy_of(served_home, folder / "home")

    def body(network: Alone) -> list[str]:
        with (
            running(home, wiring, folder / "logs", SETTINGS | registry_of(served_home)) as started,
            asked(started) as http,
        ):
            used(http)
        return network.look()

    return body


@pytest.mark.slow
@pytest.mark.usefixtures("unasked")
def test_one_process_without_any_route_starts_and_answers_in_full(served_home: Path, tmp_path: Path) -> None:
    alone(platform(served_home, tmp_path, "one_process"), sink=False)


@pytest.mark.slow
@pytest.mark.usefixtures("unasked")
def test_five_processes_call_nobody_while_they_start_answer_and_end(served_home: Path, tmp_path: Path) -> None:
    assert alone(platform(served_home, tmp_path, "five_processes"), sink=True) == []


def test_whoever_calls_outside_or_asks_for_a_name_is_caught() -> None:
    call = "import socket; socket.create_connection(('somebody.example', 443), 2)"

    def body(network: Alone) -> list[str]:
        subprocess.run([sys.executable, "-c", call], capture_output=True, check=False, timeout=30)
        with socket.socket() as mine:
            mine.setblocking(False)
            with suppress(BlockingIOError):
                mine.connect((OUTSIDE, 443))
        time.sleep(0.1)
        return network.look()

    caught = alone(body, sink=True)
    assert f"udp {NAMESERVER}:53" in caught
    assert f"tcp {OUTSIDE}:443" in caught


def test_without_a_route_the_very_first_step_outside_fails() -> None:
    def body(network: Alone) -> int:
        with socket.socket() as mine:
            return mine.connect_ex((OUTSIDE, 443))

    assert os.strerror(alone(body, sink=False)) == "Network is unreachable"


def test_the_tests_themselves_stay_in_the_network_they_were_in() -> None:
    before = os.readlink("/proc/self/ns/net")
    inside = alone(lambda network: os.readlink("/proc/thread-self/ns/net"), sink=False)
    assert os.readlink("/proc/self/ns/net") == before != inside
