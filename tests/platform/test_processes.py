"""Five processes answer like one, and an answer still comes while any of the inner four is dead."""

import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bench.processes import Platform, running
from training.dataset import load

USERS = 200
AT = "2026-01-31T12:00:00Z"  # features of the hour and the weekday then agree, whenever the test runs
QUICK = {"WINNOW_BUNDLE_EVERY_S": "0.2", "WINNOW_POPULAR_EVERY_S": "0.2"}


def request(user_id: str, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "n": 10, "context": {"at": AT, "surface": "home"}, **more}


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs by nature: the request's id and the time it took."""
    return {key: value for key, value in answer.items() if key not in ("request_id", "took_ms")}


def copy_of(home: Path, into: Path) -> Path:
    """A home of its own for a platform: two processes must not write one log. The registry stays where it is."""
    shutil.copytree(home / "log", into / "log")
    shutil.copy(home / "dataset.json", into / "dataset.json")
    return into


@pytest.fixture(scope="module")
def five(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("five")
    registry = {"WINNOW_MLFLOW_URI": f"sqlite:///{served_home}/mlflow.db"}
    with running(
        copy_of(served_home, folder / "home"), "five_processes", folder / "logs", QUICK | registry
    ) as platform:
        yield platform


@pytest.fixture(scope="module")
def people(served_home: Path) -> list[str]:
    return [person.user_id for person in load(served_home).people if person.user_id][:USERS]


def url(platform: Platform, path: str) -> str:
    return f"http://127.0.0.1:{platform.rest}{path}"


def test_five_processes_answer_exactly_as_one_process(
    served_home: Path, five: Platform, people: list[str], tmp_path: Path
) -> None:
    assert len(people) == USERS
    bodies = [request(user) for user in people[:100]] + [request(user, n=3, offset=2) for user in people[100:]]
    basket = {"item_ids": ["i1", "i2"], "n": 7}
    with running(served_home, "one_process", tmp_path, QUICK) as one, httpx.Client(timeout=20) as http:
        for body in bodies:
            near = http.post(url(one, "/v1/recommendations"), json=body).json()
            far = http.post(url(five, "/v1/recommendations"), json=body).json()
            assert comparable(near) == comparable(far)
            assert near["skipped"] == []
            assert len({line["item_id"] for line in near["items"]}) == body["n"]
        near = http.post(url(one, "/v1/similar"), json=basket).json()
        assert comparable(near) == comparable(http.post(url(five, "/v1/similar"), json=basket).json())


def test_a_batch_answers_as_its_requests_would_one_by_one(five: Platform, people: list[str]) -> None:
    bodies = [request(user) for user in people[:20]]
    with httpx.Client(timeout=20) as http:
        batch = http.post(url(five, "/v1/recommendations:batch"), json={"requests": bodies}).json()["answers"]
        for body, answer in zip(bodies, batch, strict=True):
            alone = http.post(url(five, "/v1/recommendations"), json=body).json()
            assert [line["item_id"] for line in answer["items"]] == [line["item_id"] for line in alone["items"]]


def kill(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def test_a_killed_service_is_skipped_and_named_and_the_page_still_comes(
    served_home: Path, people: list[str], tmp_path: Path
) -> None:
    lost: list[str] = []
    home = copy_of(served_home, tmp_path / "home")
    registry = {"WINNOW_MLFLOW_URI": f"sqlite:///{served_home}/mlflow.db"}
    with running(home, "five_processes", tmp_path / "logs", QUICK | registry) as five, httpx.Client(timeout=20) as http:
        for service in ("ranking", "feature", "explanation", "retrieval"):
            kill(five.processes[service])
            lost.append(service)
            for user in people[:20]:
                answer = http.post(url(five, "/v1/recommendations"), json=request(user))
                assert answer.status_code == 200
                body = answer.json()
                assert set(body["skipped"]) == set(lost)
                assert len({line["item_id"] for line in body["items"]}) == 10
        event = {"event_id": "e", "type": "click", "item_id": "i1", "user_id": "u"}
        assert http.post(url(five, "/v1/events"), json=event).status_code == 503
        assert http.get(url(five, "/readyz")).status_code == 200


def test_sigterm_finishes_what_is_in_flight(served_home: Path, people: list[str], tmp_path: Path) -> None:
    home = copy_of(served_home, tmp_path / "home")
    registry = {"WINNOW_MLFLOW_URI": f"sqlite:///{served_home}/mlflow.db"}
    outcomes: list[int | str] = []
    stop = threading.Event()

    def ask(platform: Platform) -> None:
        with httpx.Client(timeout=20) as http:
            while not stop.is_set():
                try:
                    outcomes.append(
                        http.post(url(platform, "/v1/recommendations"), json=request(people[0])).status_code
                    )
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError) as ended:
                    outcomes.append(type(ended).__name__)
                    return

    with running(home, "one_process", tmp_path / "logs", QUICK | registry) as one:
        askers = [threading.Thread(target=ask, args=(one,)) for _ in range(4)]
        for asker in askers:
            asker.start()
        time.sleep(1.0)
        process = one.processes["all"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) in (0, None)
        stop.set()
        for asker in askers:
            asker.join(20)
    assert outcomes.count(200) > 10
    # A keep-alive connection may end between two requests; one that was sent is answered.
    assert set(outcomes) <= {200, "ConnectError", "RemoteProtocolError"}


def test_events_acknowledged_before_sigkill_are_there_once_after_it(served_home: Path, tmp_path: Path) -> None:
    home = copy_of(served_home, tmp_path / "home")
    registry = {"WINNOW_MLFLOW_URI": f"sqlite:///{served_home}/mlflow.db"}
    events = [
        {"event_id": f"crash-{n}", "type": "click", "item_id": f"i{n % 300}", "user_id": f"crash-user-{n % 50}"}
        for n in range(1_000)
    ]
    acknowledged: set[str] = set()
    for round_, kill_after_s in enumerate((0.15, 0.4, 0.25)):
        with running(home, "one_process", tmp_path / f"logs{round_}", QUICK | registry) as one:
            killer = threading.Timer(kill_after_s, kill, [one.processes["all"]])
            killer.start()
            post_until_dead(url(one, "/v1/events"), events, acknowledged)
            killer.join()
    with running(home, "one_process", tmp_path / "last", QUICK | registry) as one:
        post_until_dead(url(one, "/v1/events"), events, acknowledged)
    assert acknowledged == {event["event_id"] for event in events}
    dataset = load(home)
    rows = [row for row, person in enumerate(dataset.people) if person.user_id.startswith("crash-user-")]
    assert sum(len(dataset.acts_of(row)) for row in rows) == 1_000


def post_until_dead(to: str, events: list[dict[str, str]], acknowledged: set[str]) -> None:
    """Post what is not acknowledged yet, in small batches, until done or the server is gone."""
    left = [event for event in events if event["event_id"] not in acknowledged]
    with httpx.Client(timeout=10) as http:
        for start in range(0, len(left), 4):
            batch = left[start : start + 4]
            try:
                answer = http.post(to, json={"events": batch})
            except httpx.TransportError:
                return
            assert answer.status_code == 200, answer.text
            receipt = json.loads(answer.content)
            assert receipt["accepted"] + receipt["duplicates"] == len(batch)
            acknowledged.update(event["event_id"] for event in batch)
