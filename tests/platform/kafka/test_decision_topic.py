"""Decisions reach their topic in order and whole, however long the broker was away and whoever was killed meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.gateway.build import outlet
from services.gateway.decisions import DecisionLog
from services.gateway.settings import Settings
from tests.brokers import Broker, eventually, messages
from tests.choices import decision
from winnow.decisions import of_json, to_json
from winnow.home import decisions_folder
from winnow.topics import DECISIONS
from winnow.types import Person, UserState

pytestmark = [pytest.mark.platform, pytest.mark.timeout(120)]

PEOPLE = 5


@asynccontextmanager
async def decision_log(home: Path, bootstrap: str, **more: int) -> AsyncIterator[DecisionLog]:
    settings = Settings(home=home, kafka_bootstrap=bootstrap, decision_free_bytes=0, **more)  # type: ignore[arg-type]
    log = DecisionLog(outlet(settings), queue_bytes=settings.decision_queue_bytes)
    running = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    yield log
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def write(log: DecisionLog, first: int, number: int) -> None:
    for n in range(first, first + number):
        log.log(decision(request_id=f"r{n}", user=UserState(Person(f"u{n % PEOPLE}"))))


def delivered(bootstrap: str) -> list[int]:
    """Numbers of the decisions in the topic, each where it occurs first; those of one person in their order."""
    found = [of_json(message.value) for message in messages(bootstrap, DECISIONS)]
    return list(dict.fromkeys(int(one.request_id[1:]) for one in found))


def complete_and_in_order(found: list[int], number: int) -> bool:
    lanes = [[n for n in found if n % PEOPLE == person] for person in range(PEOPLE)]
    return sorted(found) == list(range(number)) and all(lane == sorted(lane) for lane in lanes)


def dropped() -> float:
    [metric] = [one for one in REGISTRY.collect() if one.name == "winnow_decisions_dropped"]
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))


def on_disk(home: Path) -> int:
    """Bytes that wait there; a file that is delivered goes away while it is looked at."""
    size = 0
    for path in decisions_folder(home).rglob("*.jsonl"):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


async def until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    await asyncio.to_thread(eventually, holds, within_s)


async def test_a_decision_comes_out_of_the_topic_with_the_same_bits(own_broker: Broker, tmp_path: Path) -> None:
    async with decision_log(tmp_path, own_broker.bootstrap) as log:
        write(log, 0, 250)
        await until(lambda: log.waiting_bytes == 0 and on_disk(tmp_path) == 0)
    found = messages(own_broker.bootstrap, DECISIONS)
    assert complete_and_in_order(delivered(own_broker.bootstrap), 250)
    one = next(message for message in found if of_json(message.value).request_id == "r7")
    sent = decision(request_id="r7", user=UserState(Person("u2")))
    assert (one.value, one.key) == (to_json(sent), b"u2")


async def test_a_broker_that_stands_still_delays_no_answer_and_costs_no_decision(
    own_broker: Broker, tmp_path: Path
) -> None:
    before, took = dropped(), []
    async with decision_log(tmp_path, own_broker.bootstrap) as log:
        write(log, 0, 20)
        await until(lambda: log.waiting_bytes == 0)
        own_broker.running.freeze()
        for n in range(20, 620, 2):
            asked = time.perf_counter()
            write(log, n, 2)
            took.append(time.perf_counter() - asked)
            await asyncio.sleep(0.02)
        spooled = on_disk(tmp_path)
        own_broker.running.thaw()
        await until(lambda: log.waiting_bytes == 0 and on_disk(tmp_path) == 0)
    print(f"{spooled / 1e3:.0f} kB waited on disk; the slowest answer gave {max(took) * 1e3:.1f} ms to the log")
    assert spooled > 0
    # One may have met a stall of the machine; the broker would delay more than one.
    assert sorted(took)[-2] < 0.5, "an answer waited for the broker, whose time-outs are seconds"
    assert dropped() == before
    assert complete_and_in_order(delivered(own_broker.bootstrap), 620)


async def test_what_waited_on_disk_is_delivered_before_what_came_later(own_broker: Broker, tmp_path: Path) -> None:
    before = dropped()
    async with decision_log(tmp_path, own_broker.bootstrap) as log:
        write(log, 0, 100)
        await until(lambda: log.waiting_bytes == 0)
        own_broker.running.stop()
        write(log, 100, 700)
        await until(lambda: log.waiting_bytes == 0)
        assert on_disk(tmp_path) > 0
        own_broker.again()
        for n in range(800, 1_000, 10):  # more comes while it catches up
            write(log, n, 10)
            await asyncio.sleep(0.05)
        await until(lambda: log.waiting_bytes == 0 and on_disk(tmp_path) == 0)
    assert dropped() == before
    assert complete_and_in_order(delivered(own_broker.bootstrap), 1_000)


async def test_a_full_spool_keeps_the_oldest_and_counts_the_rest(own_broker: Broker, tmp_path: Path) -> None:
    own_broker.running.stop()
    before = dropped()
    async with decision_log(tmp_path, own_broker.bootstrap, decision_disk_bytes=2**18) as log:
        for n in range(0, 600, 50):
            write(log, n, 50)
            await until(lambda: log.waiting_bytes == 0)
        lost = dropped() - before
        own_broker.again()
        await until(lambda: on_disk(tmp_path) == 0)
    found = delivered(own_broker.bootstrap)
    assert lost > 100
    assert len(found) == 600 - lost
    assert complete_and_in_order(found, len(found)), "those that came first"


DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.platform.kafka.test_decision_topic import decision_log, write

async def main():
    async with decision_log(Path(sys.argv[1]), sys.argv[2]) as log:
        write(log, 0, 300)
        while log.waiting_bytes:
            await asyncio.sleep(0.01)
        print("waits", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def leave_on_disk(home: Path, bootstrap: str) -> None:
    """300 decisions of a process that was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, home, bootstrap], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.kill()


async def test_what_a_killed_process_left_on_disk_is_delivered_by_the_next(own_broker: Broker, tmp_path: Path) -> None:
    own_broker.running.stop()
    await asyncio.to_thread(leave_on_disk, tmp_path, own_broker.bootstrap)
    own_broker.again()
    async with decision_log(tmp_path, own_broker.bootstrap) as log:
        write(log, 300, 50)
        await until(lambda: log.waiting_bytes == 0 and on_disk(tmp_path) == 0)
    assert complete_and_in_order(delivered(own_broker.bootstrap), 350)
