"""What the feature service has acknowledged is in the topic, complete and in order, whatever happened to either."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from prometheus_client import REGISTRY

from services.feature.build import build
from services.feature.service import FeatureService
from services.feature.settings import Settings
from tests.brokers import Broker, eventually, messages
from tests.events import click
from tests.homes import small_home
from winnow import segments
from winnow.canonical import EVENTS as EVENT_ROWS
from winnow.home import events_folder
from winnow.kafka import create
from winnow.messages import event_of
from winnow.topics import EVENTS, ITEMS, Message
from winnow.types import Event, Item

pytestmark = [pytest.mark.platform, pytest.mark.timeout(120)]

IMPORTED = 400  # events of the small home, which are not sent
PEOPLE = 5


@asynccontextmanager
async def service(home: Path, bootstrap: str, **settings: object) -> AsyncIterator[FeatureService]:
    one = build(Settings(home=home, segment_bytes=2**16, kafka_bootstrap=bootstrap, **settings))  # type: ignore[arg-type]
    forwarding = asyncio.create_task(one.forward())
    try:
        yield one
    finally:
        forwarding.cancel()
        await asyncio.gather(forwarding, return_exceptions=True)
        await one.close()


def clicks(first: int, number: int) -> list[Event]:
    return [click(f"x{n}", f"i{n % 60}", f"u{n % PEOPLE}", minute=n) for n in range(first, first + number)]


def sent(bootstrap: str) -> list[str]:
    """Ids of the events in the topic, each where it occurs first; those of one person in their order."""
    return list(dict.fromkeys(ids_of(messages(bootstrap, EVENTS))))


def ids_of(found: Sequence[Message]) -> list[str]:
    return [event_of(message.value, datetime.now(UTC)).event.event_id for message in found]


def complete_and_in_order(ids: Sequence[str], number: int) -> bool:
    """x0 … x(number - 1), each person's ascending."""
    numbers = [int(event_id[1:]) for event_id in ids]
    lanes = [[n for n in numbers if n % PEOPLE == person] for person in range(PEOPLE)]
    return sorted(numbers) == list(range(number)) and all(lane == sorted(lane) for lane in lanes)


def backlog(topic: str = EVENTS.name) -> float:
    return gauge("rows", topic)


def gauge(unit: str, topic: str = EVENTS.name) -> float:
    value = REGISTRY.get_sample_value(f"winnow_forward_backlog_{unit}", {"topic": topic})
    assert value is not None
    return value


async def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    await asyncio.to_thread(eventually, holds, within_s)


async def test_events_and_items_reach_their_topics_before_the_answer(own_broker: Broker, tmp_path: Path) -> None:
    home = small_home(tmp_path / "home")
    async with service(home, own_broker.bootstrap, forward_wait_ms=10_000) as one:
        for n in range(0, 300, 50):
            await one.record(clicks(n, 50))
        assert complete_and_in_order(sent(own_broker.bootstrap), 300)
        started = time.perf_counter()
        await one.record(clicks(300, 1))
        print(f"one event, disk and broker: {(time.perf_counter() - started) * 1000:.1f} ms")
        await one.put_items([Item("fresh", "Fresh")])
        await until(lambda: len(messages(own_broker.bootstrap, ITEMS)) == 61)
    first = next(iter(messages(own_broker.bootstrap, EVENTS)))
    body = orjson.loads(first.value)
    assert body["schema"] == 1
    assert body["log_position"] > IMPORTED
    assert first.key.decode() == body["user_id"]


async def test_bulk_events_are_sent_where_it_is_asked_for(own_broker: Broker, tmp_path: Path) -> None:
    async with service(small_home(tmp_path / "home"), own_broker.bootstrap, forward_imports=True) as one:
        await one.record([click("x0")])
        await until(lambda: backlog() == 0)
    assert len(sent(own_broker.bootstrap)) == IMPORTED + 1


async def test_a_broker_that_stands_still_delays_nobody_for_long_and_gets_everything_later(
    own_broker: Broker, tmp_path: Path
) -> None:
    async with service(small_home(tmp_path / "home"), own_broker.bootstrap) as one:
        await one.record(clicks(0, 50))
        await until(lambda: backlog() == 0)
        own_broker.running.freeze()
        began, took = time.monotonic(), []
        for n in range(50, 350, 5):
            asked = time.monotonic()
            await one.record(clicks(n, 5))
            took.append(time.monotonic() - asked)
            await asyncio.sleep(0.05)
        behind, age = backlog(), gauge("seconds")
        frozen_s = time.monotonic() - began
        own_broker.running.thaw()
        await until(lambda: backlog() == 0)
    print(
        f"frozen {frozen_s:.1f} s: slowest answer {max(took) * 1000:.0f} ms, {behind:.0f} rows behind, oldest {age:.1f} s"
    )
    assert frozen_s > 3
    assert behind == 300
    assert frozen_s - 1 < age <= frozen_s
    assert sorted(took)[-2] < 1.0  # one may have met a stall of the machine; the broker would delay every one
    assert complete_and_in_order(sent(own_broker.bootstrap), 350)


async def test_a_broker_that_restarts_gets_what_it_missed_in_order(own_broker: Broker, tmp_path: Path) -> None:
    async with service(small_home(tmp_path / "home"), own_broker.bootstrap) as one:
        await one.record(clicks(0, 100))
        own_broker.running.stop()
        for n in range(100, 200, 10):
            await one.record(clicks(n, 10))
        assert backlog() >= 100
        own_broker.again()
        await until(lambda: backlog() == 0)
    assert complete_and_in_order(sent(own_broker.bootstrap), 200)


async def test_a_broker_that_lost_its_newest_records_gets_them_again(own_broker: Broker, tmp_path: Path) -> None:
    """This broker forgets what it acknowledged lately when it is killed; Apache Kafka's replicas would have it."""
    async with service(small_home(tmp_path / "home"), own_broker.bootstrap, forward_wait_ms=10_000) as one:
        number = kept = 0
        while kept == number < 300:  # on a slow machine it may have had the time to write everything down
            await one.record(clicks(number, 100))
            number += 100
            await until(lambda: backlog() == 0)
            own_broker.running.kill()
            own_broker.again()
            create(own_broker.bootstrap, [EVENTS])
            kept = len(sent(own_broker.bootstrap))
        assert kept < number, "the broker has lost nothing, so nothing is shown"
        await one.record(clicks(number, 20))
        await until(lambda: len(sent(own_broker.bootstrap)) == number + 20)
    again = ids_of(messages(own_broker.bootstrap, EVENTS))[::-1]
    assert complete_and_in_order(list(dict.fromkeys(again))[::-1], number + 20), "what is sent again is in order"


async def test_an_idle_broker_that_lost_records_is_noticed_after_a_restart_of_the_service(
    own_broker: Broker, tmp_path: Path
) -> None:
    home = small_home(tmp_path / "home")
    async with service(home, own_broker.bootstrap, forward_wait_ms=10_000) as one:
        await one.record(clicks(0, 30))
    own_broker.running.kill()
    own_broker.again()
    async with service(home, own_broker.bootstrap):
        await until(lambda: len(sent(own_broker.bootstrap)) == 30)


DRIVER = """
import asyncio, sys
from pathlib import Path
from services.feature.build import build
from services.feature.settings import Settings
from tests.events import click

async def main():
    service = build(Settings(home=Path(sys.argv[1]), segment_bytes=2**16, kafka_bootstrap=sys.argv[2]))
    forwarding = asyncio.create_task(service.forward())
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async def one(n):
        await service.record([click(f"x{n}", f"i{n % 60}", f"u{n % 5}", minute=n)])
        print(n, flush=True)
    waiting = set()
    while line := await lines.readline():
        waiting.add(asyncio.create_task(one(int(line))))
    await asyncio.gather(*waiting)

asyncio.run(main())
"""


def test_a_killed_service_sends_on_from_where_it_stopped(own_broker: Broker, tmp_path: Path) -> None:
    home = small_home(tmp_path / "home")
    chance = random.Random(3)
    acknowledged: set[int] = set()
    for _ in range(4):
        command = [sys.executable, "-c", DRIVER, str(home), own_broker.bootstrap]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        feed = "".join(f"{n}\n" for n in range(600) if n not in acknowledged)
        reader = threading.Thread(target=lambda lines=process.stdout: acknowledged.update(map(int, lines)))
        reader.start()
        process.stdin.write(feed)
        process.stdin.flush()
        eventually(lambda before=len(acknowledged): len(acknowledged) > before or len(acknowledged) == 600)
        time.sleep(chance.uniform(0.0, 0.2))
        process.kill()
        process.wait(20)
        reader.join(20)
    recorded = segments.whole(events_folder(home), EVENT_ROWS)["event_id"].to_pylist()[IMPORTED:]

    async def drain() -> None:
        async with service(home, own_broker.bootstrap):
            await until(lambda: backlog() == 0)

    asyncio.run(drain())
    found = messages(own_broker.bootstrap, EVENTS)
    ids = sent(own_broker.bootstrap)
    print(f"{len(acknowledged)} acknowledged, {len(recorded)} recorded, {len(found)} messages for {len(ids)} events")
    assert {f"x{n}" for n in acknowledged} <= set(ids)
    assert sorted(ids) == sorted(recorded)
    assert in_order_of_the_log(ids, recorded)


def in_order_of_the_log(ids: Sequence[str], recorded: Sequence[str]) -> bool:
    place = {event_id: n for n, event_id in enumerate(recorded)}
    lanes = [[place[event_id] for event_id in ids if int(event_id[1:]) % PEOPLE == person] for person in range(PEOPLE)]
    return all(lane == sorted(lane) for lane in lanes)
