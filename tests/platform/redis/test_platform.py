"""Five processes with a Redis: it is frozen and killed under them, and no answer, no event and no state is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from bench.processes import running
from parts.program import HOST, Program, Running, free_ports, start
from parts.redis import redis
from tests.homes import PATIENT, copy_of, registry_of
from winnow.errors import WinnowError
from winnow.hot_store import HotStore
from winnow.types import Person

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(180)]
PATIENCE_S = 15.0
BUDGET_S = 1.0  # of the feature stage
CALL_S = 2.0  # far more than an answer takes, far less than waiting for what is down


@dataclass
class Live:
    """A platform and its Redis. `clicked` counts what was acknowledged, `took_s` is how long each event and answer took."""

    client: httpx.Client
    program: Program
    server: Running
    url: str
    feature: psutil.Process | None = None
    clicked: int = 0
    took_s: list[float] = field(default_factory=list)

    def click_and_ask(self) -> None:
        """One event and one answer."""
        event = {"event_id": f"hot-{self.clicked}", "type": "click", "item_id": "i1", "user_id": "hot"}
        event["occurred_at"] = "2026-01-31T12:00:00Z"
        began = time.monotonic()
        self.client.post("/v1/events", json=event).raise_for_status()
        self.clicked += 1
        answer = self.client.get("/v1/recommendations", params={"user_id": "hot", "n": 5})
        answer.raise_for_status()
        self.took_s.append(time.monotonic() - began)
        assert "i1" not in [item["item_id"] for item in answer.json()["items"]], "the click does not count"

    def in_time(self) -> bool:
        """Whether nobody waited for what is down since this was asked; a busy machine may stall once."""
        *usual, _ = sorted(self.took_s)
        self.took_s.clear()
        return max(usual) < CALL_S

    def in_redis(self) -> int:
        store = HotStore(self.url, 1.0)
        try:
            state = store.read(Person("hot"))
        except WinnowError:
            return -1
        finally:
            store.close()
        return state.events if state else 0


@pytest.fixture(scope="module")
def live(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    (port,) = free_ports(1)
    program, url = redis(folder / "redis", port), f"redis://{HOST}:{port}/0"
    settings = PATIENT | {"WINNOW_REDIS_URL": url, "WINNOW_BUNDLE_EVERY_S": "1"} | registry_of(served_home)
    settings |= {"WINNOW_FEATURE_BUDGET_MS": str(1e3 * BUDGET_S)}

    def own(name: str) -> dict[str, str]:
        return {"WINNOW_REDIS_TIMEOUT_MS": "2000"} if name == "gateway" else {}  # its budget is what bounds it

    there = Live(httpx.Client(timeout=10), program, start(program), url)
    try:
        home = copy_of(served_home, folder / "home")
        with running(home, "five_processes", folder / "logs", settings, own) as platform:
            there.feature = platform.processes["feature"]
            there.client.base_url = httpx.URL(f"http://{HOST}:{platform.rest}")
            yield there
    finally:
        there.server.stop()


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_click_is_in_redis_and_in_the_next_answer(live: Live) -> None:
    until(lambda: live.in_redis() == 0)
    for _ in range(10):
        live.click_and_ask()
    until(lambda: live.in_redis() == live.clicked)
    assert live.in_time()


def test_a_frozen_redis_changes_no_answer_and_misses_nothing_when_it_thaws(live: Live) -> None:
    live.server.freeze()
    try:
        for _ in range(30):
            live.click_and_ask()
    finally:
        live.server.thaw()
    assert live.in_time()
    until(lambda: live.in_redis() == live.clicked)


def test_a_killed_redis_changes_no_answer_and_misses_nothing_when_it_returns(live: Live) -> None:
    live.server.kill()
    for _ in range(30):
        live.click_and_ask()
    assert live.in_time()
    live.server = start(live.program)
    until(lambda: live.in_redis() == live.clicked)
    live.click_and_ask()
    until(lambda: live.in_redis() == live.clicked)


def test_while_the_feature_service_is_frozen_redis_knows_people_and_nobody_waits(live: Live) -> None:
    live.click_and_ask()
    until(lambda: live.in_redis() == live.clicked)
    event = {"event_id": "hot-token", "type": "click", "item_id": "i2", "user_id": "hot"}
    token = live.client.post("/v1/events", json=event).json()["token"]
    live.clicked += 1
    until(lambda: live.in_redis() == live.clicked)
    asked = {"user_id": "hot", "n": 20, "token": token}

    def ask() -> dict[str, Any]:
        began = time.monotonic()
        answer: dict[str, Any] = live.client.post("/v1/recommendations", json=asked).json()
        took.append(time.monotonic() - began)
        return answer

    took: list[float] = []
    until(lambda: ask()["skipped"] == [])
    took.clear()
    for _ in range(10):
        ask()
    usual = float(np.median(took))
    took.clear()
    assert live.feature is not None
    live.feature.suspend()
    try:
        for _ in range(40):
            answer = ask()
            assert answer["skipped"] == ["feature"]
            assert answer["token_included"] is True
            assert not {"i1", "i2"} & {item["item_id"] for item in answer["items"]}, "the clicks do not count"
        assert float(np.median(took)) < usual + BUDGET_S / 2, "everybody waits for what is down"
    finally:
        live.feature.resume()
    until(lambda: live.client.post("/v1/recommendations", json=asked).json()["skipped"] == [])
