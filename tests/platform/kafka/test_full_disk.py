"""A disk without room: events are refused and say why, answers go on, and nothing is lost without being counted."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.processes import Platform, running
from tests.brokers import Broker, eventually, messages
from tests.homes import PATIENT, copy_of, registry_of
from winnow import segments
from winnow.canonical import EVENTS as EVENT_ROWS
from winnow.decisions import of_json
from winnow.home import events_folder
from winnow.topics import DECISIONS, EVENTS

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(240)]

DISK_MB = 16
ANSWERS = 40


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own that is really full when it is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file:
        for size in (2**16, 2**9, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
        with pytest.raises(OSError, match="No space left"):
            file.write(b"x")
    return path


def event(n: int) -> dict[str, Any]:
    return {"event_id": f"x{n}", "type": "click", "item_id": f"i{n % 60}", "user_id": f"u{n % 5}"}


def metric(http: httpx.Client, name: str) -> float:
    """The sum of a counter over those of its labels that `name` leaves open."""
    lines = re.findall(rf"^{re.escape(name)}\S* (\S+)$", http.get("/metrics").text, re.MULTILINE)
    return sum(map(float, lines))


def ask(http: httpx.Client, number: int) -> list[str]:
    """Request ids of so many answers, each complete."""
    found = []
    for n in range(number):
        answer = http.post("/v1/recommendations", json={"user_id": f"u{n % 5}", "n": 10})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["items"]) == 10
        found.append(answer.json()["request_id"])
    return found


@pytest.mark.parametrize("kafka", [False, True], ids=["without Kafka", "with Kafka"])
def test_a_full_disk_refuses_events_and_answers_go_on(
    served_home: Path, disk: Path, own_broker: Broker, tmp_path: Path, kafka: bool
) -> None:
    home = copy_of(served_home, disk / "home")
    imported = segments.whole(events_folder(home), EVENT_ROWS).num_rows
    settings = {
        "WINNOW_DECISION_FREE_BYTES": "0",  # nobody leaves room for anybody
        "WINNOW_KAFKA_BOOTSTRAP": own_broker.bootstrap if kafka else "",
        **PATIENT,
        "WINNOW_WRITE_BUDGET_MS": "25000",  # a disk that is slow is not full
        **registry_of(served_home),
    }
    with running(home, "one_process", tmp_path / "logs", settings) as platform:
        with client(platform) as http:
            taken, counted, asked = through_a_full_disk(http, disk, kafka)
        wanted = asked if kafka else []
        eventually(lambda: len(kept(own_broker)) >= len(wanted))
    recorded = segments.whole(events_folder(home), EVENT_ROWS)["event_id"].to_pylist()[imported:]
    assert recorded == taken, "what was acknowledged, once, and nothing else"
    if kafka:
        assert counted == 0, "what Kafka takes at once needs no disk"
        assert set(asked) <= kept(own_broker)
        sent = [message.value for message in messages(own_broker.bootstrap, EVENTS)]
        assert len(sent) == len(taken)
    else:
        assert counted == ANSWERS


def kept(broker: Broker) -> set[str]:
    return {of_json(message.value).request_id for message in messages(broker.bootstrap, DECISIONS)}


def client(platform: Platform) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{platform.rest}", timeout=30, trust_env=False)


def through_a_full_disk(http: httpx.Client, disk: Path, kafka: bool) -> tuple[list[str], float, list[str]]:
    """Ids of the events that were taken, how many decisions were counted as dropped, ids of all answers."""
    taken = [record(http, n) for n in range(20)]
    logged = metric(http, "winnow_decisions_total")
    asked = ask(http, 5)
    eventually(lambda: metric(http, "winnow_decisions_total") >= logged + 5)  # none is on its way to the disk
    filler = fill(disk)
    refused = [record(http, n) for n in range(20, 40)]
    assert any(event_id is None for event_id in refused)
    assert refused[-1] is None, "the last byte is gone"
    taken += [event_id for event_id in refused if event_id]
    before = metric(http, "winnow_decisions_dropped_total")
    asked += ask(http, ANSWERS)
    if not kafka:
        eventually(lambda: metric(http, 'winnow_decisions_dropped_total{reason="disk_full"}') - before >= ANSWERS)
    dropped = metric(http, "winnow_decisions_dropped_total") - before
    os.unlink(filler)
    taken += [record(http, n) for n in range(20, 60) if f"x{n}" not in taken]
    asked += ask(http, 5)
    assert None not in taken
    print(f"{refused.count(None)} events refused, {dropped:.0f} of {ANSWERS} decisions dropped and counted")
    return [event_id for event_id in taken if event_id], dropped, asked


def record(http: httpx.Client, n: int) -> str | None:
    """The id of an event that was acknowledged; None for one that was refused for want of room."""
    answer = http.post("/v1/events", json=event(n))
    if answer.status_code == 200:
        assert answer.json()["token"]
        return f"x{n}"
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == "urn:winnow:problem:disk-full", answer.text
    return None
