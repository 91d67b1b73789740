"""The decision log never delays an answer, never grows beyond its bytes, and counts what it had to leave out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.gateway.decisions import DecisionLog
from services.gateway.spool import Spool
from services.gateway.to_disk import ToDisk
from tests.choices import decision
from winnow.decisions import of_json, size_bytes
from winnow.errors import DiskFull, ResourceExhausted, Unavailable, WinnowError
from winnow.topics import Record

SIZE = size_bytes(decision())


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("winnow_decisions_dropped_total", {"reason": reason}) or 0.0


class Slow:
    """An outlet that takes nothing until it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.got: list[Record] = []
        self.closed = False

    def deliver(self, records: Sequence[Record]) -> None:
        self.let.wait(10)
        self.got += records

    def idle(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def run(log: DecisionLog) -> AsyncIterator[None]:
    running = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_decisions_come_in_order_and_those_queued_at_the_end_come_too() -> None:
    outlet = Slow()
    outlet.let.set()
    log = DecisionLog(outlet, queue_bytes=1_000 * SIZE)
    async with run(log):
        for n in range(300):
            log.log(decision(request_id=f"r{n}"))
    assert [of_json(record.value).request_id for record in outlet.got] == [f"r{n}" for n in range(300)]
    assert {record.key for record in outlet.got} == {b"u"}
    assert outlet.closed
    assert log.waiting_bytes == 0


async def test_an_outlet_that_stands_still_costs_bounded_memory_and_every_loss_is_counted() -> None:
    outlet, before = Slow(), dropped("queue_full")
    log = DecisionLog(outlet, queue_bytes=10 * SIZE)
    async with run(log):
        for n in range(200):
            log.log(decision(request_id=f"r{n}"))
            assert log.waiting_bytes <= 10 * SIZE
            await asyncio.sleep(0)
        outlet.let.set()
    assert len(outlet.got) == 10
    assert dropped("queue_full") - before == 190


async def test_without_its_thread_nothing_is_kept() -> None:
    log = DecisionLog(Slow(), queue_bytes=10 * SIZE)
    log.log(decision())
    assert log.waiting_bytes == 0


async def test_a_bug_in_an_outlet_ends_the_process_that_runs_it() -> None:
    class Broken(Slow):
        def deliver(self, records: Sequence[Record]) -> None:
            raise ZeroDivisionError

    log = DecisionLog(Broken(), queue_bytes=10 * SIZE)
    running = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    log.log(decision())
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 10)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (DiskFull("full"), "disk_full"),
        (ResourceExhausted("full"), "spool_full"),
        (Unavailable("broken"), "disk_failed"),
    ],
)
def test_what_the_disk_does_not_take_is_counted_by_its_reason(trouble: WinnowError, reason: str) -> None:
    def refuse() -> Spool:
        raise trouble

    before = dropped(reason)
    ToDisk(refuse).deliver([Record(b"u", b"{}")] * 3)
    assert dropped(reason) - before == 3


def test_a_disk_that_is_there_again_is_used_again(tmp_path: Path) -> None:
    spools: list[WinnowError | Spool] = [
        DiskFull("full"),
        Spool(tmp_path, max_bytes=10_000, free_bytes=0, rolling=True),
    ]

    def one() -> Spool:
        found = spools.pop(0)
        if isinstance(found, WinnowError):
            raise found
        return found

    disk = ToDisk(one)
    disk.deliver([Record(b"u", b"lost")])
    disk.deliver([Record(b"u", b"kept")])
    assert disk.spool.oldest(5) == [b"kept"]
