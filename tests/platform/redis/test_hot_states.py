"""People's hot states: in Redis when the event is answered, never in an answer's way, and made good after every loss."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from parts.program import HOST, Running, free_ports, start
from parts.redis import redis
from services.feature.build import build
from services.feature.hot import WriteThrough
from services.feature.service import FeatureService
from services.feature.settings import Settings
from tests.events import click
from tests.homes import event_lists
from winnow.errors import DeadlineExceeded, InvalidArgument
from winnow.feast_layout import Layout
from winnow.feature_views import SESSION_ACTIVITY, USER_ACTIVITY
from winnow.features import UserView
from winnow.hot_state import ACTS, KEPT_S, MARK, Mark, key_of, unpack
from winnow.hot_store import HotStore, Row
from winnow.redis import Hashes, connect
from winnow.serving.telemetry import HOT_WRITES
from winnow.types import Context, Event, EventType, Item, Person

pytestmark = pytest.mark.platform
TIMEOUT_MS = 150.0  # where Redis is to be late
PATIENT_MS = 5_000.0  # where a busy machine must not make it late
SLACK_S = 0.2  # of a busy machine
PATIENCE_S = 10.0
U1 = Person("u1")
TYPES = (EventType.IMPRESSION, EventType.CLICK, EventType.CART, EventType.PURCHASE, EventType.DISMISS)


@asynccontextmanager
async def served(
    home: Path, url: str, *, current: bool = True, timeout_ms: float = PATIENT_MS
) -> AsyncIterator[FeatureService]:
    """A feature service as its process runs it; `current`: once Redis is up to date."""
    service = build(Settings(home=home, redis_url=url, redis_timeout_ms=timeout_ms, segment_bytes=2**16))
    beside = asyncio.create_task(service.keep_hot())
    try:
        if current:
            await until(lambda: hot_of(service).current)
        yield service
    finally:
        beside.cancel()
        await asyncio.wait([beside])
        await service.close()


def hot_of(service: FeatureService) -> WriteThrough:
    assert isinstance(service._hot, WriteThrough)
    return service._hot


async def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


async def took_s(service: FeatureService, events: Sequence[Event]) -> float:
    began = time.monotonic()
    await service.record(events)
    return time.monotonic() - began


def events_of(url: str, person: Person = U1) -> int:
    store = HotStore(url, 5.0)
    state = store.read(person)
    store.close()
    return state.events if state else 0


async def test_a_state_is_in_redis_when_the_event_is_answered(tmp_path: Path, redis_url: str) -> None:
    store, calls = HotStore(redis_url, 5.0), ACTS * 5 // 4 + 20
    async with served(tmp_path, redis_url) as service:
        for n in range(calls):
            await service.record([click(f"e{n}", f"i{n % 70}", minute=n, type=TYPES[n % 5])])
            state = store.read(U1)
            assert (state.events if state else 0) == n + 1 - (n // 5 + 1), "impressions are no acts"
        (known,) = await service.users([U1])
        assert state is not None
        assert state.acts.item_ids[-50:].tolist() == known.history.item_ids.tolist()
        assert (state.seen.tolist(), state.events, state.position) == (
            known.seen.tolist(),
            known.events,
            known.watermark,
        )
        assert len(state.acts) == ACTS < state.events
        assert dict(zip(EventType, state.counts, strict=True))[EventType.CART] == calls // 5
        assert state.acts.positions.tolist() == [n + 1 for n in range(calls) if n % 5][-ACTS:]
        assert store.mark() == Mark(state.log, calls)
        client: Any = connect(redis_url, 5.0)
        assert KEPT_S - 60 < client.ttl(key_of(U1)) <= KEPT_S


async def test_the_row_that_feast_reads_is_written_in_the_same_call(tmp_path: Path, redis_url: str) -> None:
    hashes = Hashes(connect(redis_url, 5.0))
    async with served(tmp_path, redis_url) as service:
        await service.put_items([Item("i1", categories=("lamp",), brand="Brand", price=3.0)])
        await service.record([click("e1", "i1"), click("e2", "i2", "", session_id="s1")])
        (known,) = await service.users([U1])
        facts = {"i1": Item("i1", categories=("lamp",), brand="Brand", price=3.0)}
        expected = USER_ACTIVITY.row(UserView(known, Context(), facts.get))
        now = known.history.at[-1]
        assert Layout((USER_ACTIVITY,)).read(["u1"], hashes, now) == [expected]
        assert "Brand" in expected
        (session,) = Layout((SESSION_ACTIVITY,)).read(["s1"], hashes, now)
        assert session[0] == "i2"


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=event_lists(in_order=False))
def test_redis_holds_what_a_service_that_starts_would_write(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, events: list[Event]
) -> None:
    """Every state, byte for byte but for its position, however the events were cut into calls."""
    home = tmp_path_factory.mktemp("home")
    client: Any = connect(redis_url, 5.0)
    client.flushall()

    async def play() -> None:
        async with served(home, redis_url) as service:
            for start_ in range(0, len(events), 3):
                await service.record(events[start_ : start_ + 3])
        there = content(client)
        client.flushall()
        async with served(home, redis_url):
            assert content(client) == there

    asyncio.run(play())


def content(client: Any) -> dict[bytes, object]:
    """Everything in Redis; of what begins with a log and a position, without the position."""
    found: dict[bytes, object] = {}
    for key in client.scan_iter(b"*"):
        if key == MARK:
            continue
        if client.type(key) == b"hash":
            found[key] = client.hgetall(key)
        else:
            packed = client.get(key)
            found[key] = packed[:14] + packed[22:]
    return found


async def test_a_frozen_redis_costs_a_time_out_once_and_is_brought_up_to_date(
    tmp_path: Path, redis_running: tuple[Running, str], redis_url: str
) -> None:
    server, _ = redis_running
    late, away = (HOT_WRITES.labels(outcome=outcome)._value for outcome in ("late", "away"))
    async with served(tmp_path, redis_url, timeout_ms=TIMEOUT_MS) as service:
        await service.record([click("e0")])
        await until(lambda: hot_of(service).current)
        waited, refused = late.get(), away.get()
        server.freeze()
        try:
            first = await took_s(service, [click("e1")])
            await until(lambda: not hot_of(service).current)
            others = [await took_s(service, [click(f"e{n}")]) for n in range(2, 40)]
        finally:
            server.thaw()
        assert first < PATIENT_MS / 1000, "the time-out is not kept"
        assert float(np.median(others)) < TIMEOUT_MS / 1000 / 2, "everybody waits for what is down"
        assert late.get() - waited <= 1
        assert late.get() - waited + away.get() - refused == 39
        await until(lambda: hot_of(service).current)
        assert events_of(redis_url) == 40
        written = HOT_WRITES.labels(outcome="written")._value
        counted = written.get()
        for n in range(40, 60):  # a busy machine may be late
            await until(lambda: hot_of(service).current)
            await service.record([click(f"e{n}")])
            if written.get() > counted:
                break
        assert written.get() > counted, "not written through again"
        assert events_of(redis_url) == n + 1


async def test_a_redis_that_dies_and_forgets_is_brought_up_to_date(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url, program = f"redis://{HOST}:{port}/0", redis(tmp_path / "redis", port)
    async with served(tmp_path / "home", url, current=False) as service:
        await service.record([click("e0")])  # there is no Redis yet
        server = await asyncio.to_thread(start, program)
        try:
            await until(lambda: hot_of(service).current)
            await service.record([click("e1")])
            assert events_of(url) == 2
            server.kill()
            await service.record([click("e2")])
            for file in (tmp_path / "redis").glob("appendonlydir/*"):
                file.unlink()
            server = await asyncio.to_thread(start, program)
            await until(lambda: hot_of(service).current and events_of(url) == 3)
            client: Any = connect(url, 5.0)
            client.flushall()  # and nobody writes: the look at the mark finds it
            await until(lambda: events_of(url) == 3)
        finally:
            server.stop()


async def test_a_service_that_starts_writes_what_redis_missed_and_only_that(tmp_path: Path, redis_url: str) -> None:
    async with served(tmp_path, redis_url) as service:
        await service.record([click("e0"), click("e1", user_id="u2")])
    async with served(tmp_path, "redis://127.0.0.1:1/0", current=False) as service:
        await service.record([click("e2"), click("e3", user_id="", session_id="s1")])
    client: Any = connect(redis_url, 5.0)
    client.set(key_of(Person("u2")), b"not touched")
    async with served(tmp_path, redis_url):
        assert events_of(redis_url) == 2
        assert events_of(redis_url, Person(session_id="s1")) == 1
        assert client.get(key_of(Person("u2"))) == b"not touched"


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_impression_that_gave_a_session_to_its_user_is_not_missed(
    tmp_path: Path, redis_running: tuple[Running, str], redis_url: str, restarted: bool
) -> None:
    """It is no act, so only the link says that two states have changed."""
    server, _ = redis_running
    link = click("e1", user_id="u3", session_id="s1", type=EventType.IMPRESSION)
    async with served(tmp_path, redis_url, timeout_ms=PATIENT_MS if restarted else TIMEOUT_MS) as service:
        await service.record([click("e0", user_id="", session_id="s1")])
        if not restarted:
            server.freeze()
            try:
                await service.record([link])
                await until(lambda: not hot_of(service).current)
            finally:
                server.thaw()
            await until(lambda: hot_of(service).current)
            assert events_of(redis_url, Person("u3")) == 1
            return
    async with served(tmp_path, "redis://127.0.0.1:1/0", current=False) as service:
        await service.record([link])
    async with served(tmp_path, redis_url):
        assert events_of(redis_url, Person("u3")) == 1


def test_no_call_to_a_frozen_redis_waits_longer_than_its_time_out(
    redis_running: tuple[Running, str], redis_url: str
) -> None:
    server, _ = redis_running
    store = HotStore(redis_url, 0.2)
    took: dict[str, list[float]] = {"on the open connection": [], "on a new one": []}
    for _ in range(3):  # a busy machine may stall in one of them
        answered(store)
        server.freeze()
        try:
            for each in took.values():
                began = time.monotonic()
                with pytest.raises(DeadlineExceeded):
                    store.mark()
                each.append(time.monotonic() - began)
        finally:
            server.thaw()
    assert all(float(np.median(each)) < 0.2 + SLACK_S for each in took.values()), took
    assert answered(store) is None


def answered(store: HotStore) -> Mark | None:
    """The mark, once Redis is not late with it."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            return store.mark()
        except DeadlineExceeded:
            assert time.monotonic() < ends


async def test_states_of_another_log_are_replaced(tmp_path: Path, redis_url: str) -> None:
    async with served(tmp_path / "one", redis_url) as service:
        await service.record([click(f"e{n}") for n in range(5)])
    async with served(tmp_path / "two", redis_url) as service:
        await service.record([click("x")])
        assert events_of(redis_url) == 1


async def test_a_home_restored_from_an_older_copy_starts_a_new_log(tmp_path: Path, redis_url: str) -> None:
    async with served(tmp_path, redis_url) as service:
        await service.record([click("e0")])
        before = hot_of(service)._rows.log
    store = HotStore(redis_url, 5.0)
    store.begin(Mark(before, 1_000))
    async with served(tmp_path, redis_url) as service:
        assert hot_of(service)._rows.log != before
        assert store.mark() == Mark(hot_of(service)._rows.log, 1)
        assert events_of(redis_url) == 1


async def test_what_arrives_late_does_not_replace_what_is_newer(tmp_path: Path, redis_url: str) -> None:
    store = HotStore(redis_url, 5.0)
    client: Any = connect(redis_url, 5.0)
    async with served(tmp_path, redis_url) as service:
        await service.record([click("e0")])
        old: Row | None = hot_of(service)._rows.row(U1)
        assert old is not None
        await service.record([click("e1")])
        there = client.get(key_of(U1)), client.hgetall(old.feast_key), store.mark()
        assert not store.write([old], (Mark(hot_of(service)._rows.log, 1), Mark(hot_of(service)._rows.log, 9)))
        assert (client.get(key_of(U1)), client.hgetall(old.feast_key), store.mark()) == there


async def test_a_slow_redis_costs_no_more_than_the_time_out(tmp_path: Path, redis_url: str) -> None:
    delay_s, took, rounds = [0.0], [], 3
    async with slowed(redis_url, delay_s) as url, served(tmp_path, url, timeout_ms=TIMEOUT_MS) as service:
        for first in range(0, 10 * rounds, 10):
            await service.record([click(f"e{first}")])
            await until(lambda n=first + 1: hot_of(service).current and events_of(redis_url) == n)
            delay_s[0] = 0.2
            took.append([await took_s(service, [click(f"e{n}")]) for n in range(first + 1, first + 10)])
            delay_s[0] = 0.0
            await until(lambda n=first + 10: hot_of(service).current and events_of(redis_url) == n)
    assert float(np.median(np.max(took, axis=1))) < TIMEOUT_MS / 1000 + SLACK_S, took
    assert float(np.median(took)) < TIMEOUT_MS / 1000 / 2, took


@asynccontextmanager
async def slowed(url: str, delay_s: list[float]) -> AsyncIterator[str]:
    """A Redis whose answers come late."""
    port = int(url.rpartition(":")[2].partition("/")[0])

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, late: bool) -> None:
        try:
            while piece := await source.read(65_536):
                await asyncio.sleep(delay_s[0] if late else 0.0)
                sink.write(piece)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection(HOST, port)
        await asyncio.gather(pump(reader, there, False), pump(back, writer, True))

    proxy = await asyncio.start_server(connected, HOST, 0)
    try:
        yield f"redis://{HOST}:{proxy.sockets[0].getsockname()[1]}/0"
    finally:
        proxy.close()


async def test_a_redis_that_refuses_to_write_is_away_and_the_event_is_taken(tmp_path: Path, redis_url: str) -> None:
    client: Any = connect(redis_url, 5.0)
    async with served(tmp_path, redis_url) as service:
        client.config_set("maxmemory", 1)
        try:
            await service.record([click("e0")])
            assert not hot_of(service).current
        finally:
            client.config_set("maxmemory", 0)
        await until(lambda: hot_of(service).current)
        assert events_of(redis_url) == 1


async def test_calls_that_come_together_share_rounds_and_each_is_written_when_answered(
    tmp_path: Path, redis_url: str
) -> None:
    store, late = HotStore(redis_url, 5.0), HOT_WRITES.labels(outcome="late")._value
    async with served(tmp_path, redis_url) as service:
        for n in range(10):
            counted = late.get()
            await asyncio.gather(*(service.record([click(f"e{n}.{k}", user_id=f"u{k}")]) for k in range(20)))
            states = [store.read(Person(f"u{k}")) for k in range(20)]
            missing = sum(state is None or state.events != n + 1 for state in states)
            assert missing <= late.get() - counted, "a call was answered as written before it was"


def test_packed_states_that_are_cut_or_changed_are_refused(redis_url: str, tmp_path: Path) -> None:
    async def packed() -> bytes:
        async with served(tmp_path, redis_url) as service:
            await service.record([click(f"e{n}", f"i{n}", minute=n) for n in range(30)])
        client: Any = connect(redis_url, 5.0)
        return bytes(client.get(key_of(U1)))

    whole = asyncio.run(packed())
    assert unpack(whole).events == 30
    for size in range(len(whole) - 1, 0, -7):
        with pytest.raises(InvalidArgument):
            unpack(whole[:size].rsplit(b"\0", 1)[0])
