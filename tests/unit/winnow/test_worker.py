from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from winnow.catalogue import Rows
from winnow.errors import ResourceExhausted, Unavailable
from winnow.pipeline import deadline_in, remaining_s
from winnow.worker import LATELY, BriefWorker, Upkeep, Worker


async def test_work_runs_in_a_thread_and_the_loop_goes_on() -> None:
    worker, gate = Worker("test"), threading.Event()
    work = asyncio.create_task(worker.run(lambda: gate.wait(10) and threading.current_thread().name))
    await asyncio.sleep(0.01)
    gate.set()
    assert (await work).startswith("test")
    worker.close()


async def test_more_calls_than_may_wait_are_refused_and_room_comes_back() -> None:
    worker, gate = Worker("test", max_waiting=2), threading.Event()
    waiting = [asyncio.create_task(worker.run(gate.wait, 10)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        await worker.run(gate.wait, 10)
    gate.set()
    await asyncio.gather(*waiting)
    assert await worker.run(lambda: 7) == 7
    worker.close()


async def test_a_caller_that_gives_up_keeps_its_place_until_the_thread_is_done() -> None:
    worker, gate = Worker("test", max_waiting=1), threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await worker.run(gate.wait, 10)
    with pytest.raises(ResourceExhausted):
        await worker.run(lambda: 7)
    gate.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await worker.run(lambda: 7) == 7
                break
            except ResourceExhausted:
                await asyncio.sleep(0.01)
    worker.close()


async def test_work_that_nobody_waits_for_any_more_is_not_begun() -> None:
    worker, gate, begun = Worker("test", max_waiting=2), threading.Event(), []
    first = asyncio.create_task(worker.run(gate.wait, 10))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await worker.run(begun.append, "late")
    await asyncio.sleep(0.01)
    behind = asyncio.create_task(worker.run(begun.append, "wanted"))  # the place is free again
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, behind)
    assert begun == ["wanted"]
    worker.close()


async def test_an_error_in_the_work_reaches_the_caller() -> None:
    worker = Worker("test")
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    worker.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> float:
    """What counts as brief where the machine may be busy, in seconds."""
    monkeypatch.setattr("winnow.worker.BRIEF_S", 0.4)
    return 0.4


def compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def where() -> str:
    return threading.current_thread().name


async def brief(worker: Worker) -> None:
    """As many brief calls as it takes to be trusted."""
    for _ in range(LATELY):
        assert (await worker.run(where)).startswith("test")


async def test_what_has_lately_been_brief_runs_where_it_is_called_until_it_is_not(patient: float) -> None:
    worker = BriefWorker("test")
    await brief(worker)
    assert await worker.run(where) == where()
    await worker.run(compute, 1.2 * patient)
    await brief(worker)
    assert await worker.run(where) == where()
    worker.close()


async def test_brief_work_fails_where_it_is_called_as_it_would_in_a_thread(patient: float) -> None:
    worker = BriefWorker("test")
    await brief(worker)
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    assert await worker.run(where) == where()
    worker.close()


async def test_who_asks_again_and_again_leaves_others_their_turn(patient: float) -> None:
    worker, asked = BriefWorker("test"), 0

    async def greedy() -> None:
        nonlocal asked
        while True:
            await worker.run(where)
            asked += 1

    await brief(worker)
    task = asyncio.create_task(greedy())
    for _ in range(100):
        await asyncio.sleep(0)
    assert asked > 10
    task.cancel()
    worker.close()


async def test_of_those_who_come_in_one_turn_only_the_first_can_be_long(patient: float) -> None:
    worker = BriefWorker("test")
    await brief(worker)
    long = asyncio.create_task(worker.run(compute, 1.2 * patient))
    others = [asyncio.create_task(worker.run(where)) for _ in range(20)]
    await long
    assert all(one.startswith("test") for one in await asyncio.gather(*others))
    worker.close()


async def test_nothing_passes_work_that_is_in_a_thread(patient: float) -> None:
    worker, gate = BriefWorker("test", threads=2), threading.Event()
    for _ in range(LATELY - 1):
        await worker.run(where)
    slow = asyncio.create_task(worker.run(gate.wait, 10))
    await asyncio.sleep(0)
    for _ in range(3):  # the first of them is what makes work trusted
        assert (await worker.run(where)).startswith("test")
    gate.set()
    await slow
    assert await worker.run(where) == where()
    worker.close()


async def test_work_that_may_wait_for_others_stays_in_its_thread_however_brief() -> None:
    worker = Worker("test")
    await brief(worker)
    assert (await worker.run(where)).startswith("test")
    worker.close()


async def test_upkeep_absorbs_every_change_once_nothing_is_lost_and_one_batch_at_a_time() -> None:
    absorbed: list[int] = []
    busy = threading.Lock()

    def absorb(rows: Rows) -> None:
        assert busy.acquire(blocking=False)
        absorbed.extend(rows.tolist())
        busy.release()

    upkeep = Upkeep("test", absorb)
    for row in range(200):
        upkeep.changed(np.asarray([row, 5]))
        if row % 20 == 0:
            await asyncio.sleep(0.001)
    await upkeep.settled()
    assert sorted(set(absorbed)) == list(range(200))
    assert sum(row > 5 for row in absorbed) == 194
    upkeep.close()


async def test_a_bug_in_upkeep_is_raised_by_the_next_change_or_whoever_waits() -> None:
    def broken(rows: Rows) -> None:
        raise ZeroDivisionError

    upkeep = Upkeep("test", broken)
    upkeep.changed(np.asarray([1]))
    with pytest.raises(ZeroDivisionError):
        await upkeep.settled()
    with pytest.raises(ZeroDivisionError):
        upkeep.changed(np.asarray([2]))
    upkeep.close()


async def test_the_callers_deadline_holds_in_the_thread() -> None:
    worker = Worker("test")
    deadline_in(5.0)
    assert 4.0 < await worker.run(remaining_s, 99.0) <= 5.0
    deadline_in(None)
    assert await worker.run(remaining_s, 99.0) == 99.0
    worker.close()


async def test_upkeep_waits_for_a_part_that_is_away_and_has_nobodys_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.worker.AGAIN_S", 0.01)
    seen: list[tuple[list[int], float]] = []

    def absorb(rows: Rows) -> None:
        seen.append((rows.tolist(), remaining_s(99.0)))
        if len(seen) < 3:
            raise Unavailable("away")

    upkeep = Upkeep("test", absorb)
    deadline_in(5.0)
    upkeep.changed(np.array([1]))
    deadline_in(None)
    await upkeep.settled()
    assert seen == [([1], 99.0)] * 3
    upkeep.close()
