"""Calls that come while a peer is busy go together, and nobody notices but the peer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.gateway.together import MOST, Together
from winnow.errors import InvalidArgument, Unavailable
from winnow.pipeline import deadline_in, remaining_s
from winnow.serving.telemetry import request_id


class Peer:
    """Doubles numbers once it is let; refuses negative ones."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.calls: list[list[int]] = []
        self.deadlines_s: list[float] = []
        self.ids: list[str] = []
        self.trouble: Exception | None = None

    async def double(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append([*numbers])
        self.deadlines_s.append(remaining_s(99))
        self.ids.append(request_id.get())
        await self.let.wait()
        if self.trouble is not None:
            raise self.trouble
        if any(number < 0 for number in numbers):
            raise InvalidArgument("negative", field="numbers")
        return [2 * number for number in numbers]


@pytest.fixture
def peer() -> Peer:
    return Peer()


async def started(together: Together[int, int], *several: list[int]) -> list[asyncio.Task[list[int]]]:
    tasks = [asyncio.create_task(together(numbers)) for numbers in several]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[list[int]]]) -> list[object]:
    async with asyncio.timeout(5):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_idle_peer_is_called_at_once_in_the_callers_own_task(peer: Peer) -> None:
    together = Together(peer.double, at_once=1)
    peer.let.set()
    request_id.set("mine")
    assert await together([3]) == [6]
    assert (peer.calls, peer.ids) == ([[3]], ["mine"])


async def test_what_comes_meanwhile_leaves_together_and_everybody_gets_their_own(peer: Peer) -> None:
    together = Together(peer.double, at_once=1)
    tasks = await started(together, [1], [2], [3, 4], [5], [6], [7])
    assert peer.calls == [[1]], "nothing leaves while the first is under way"
    peer.let.set()
    assert await outcomes(tasks) == [[2], [4], [6, 8], [10], [12], [14]]
    assert peer.calls == [[1], [2, 3, 4, 5], [6, 7]]
    assert max(map(len, peer.calls)) <= MOST


async def test_so_many_calls_are_under_way_at_once(peer: Peer) -> None:
    together = Together(peer.double, at_once=2)
    tasks = await started(together, [1], [2], [3], [4])
    assert peer.calls == [[1], [2]]
    peer.let.set()
    assert await outcomes(tasks) == [[2], [4], [6], [8]]
    assert await together([5]) == [10], "and the places are free again"
    assert peer.calls[-1] == [5]


async def test_a_large_call_goes_alone_and_whole(peer: Peer) -> None:
    tasks = await started(Together(peer.double, at_once=1), [1], [2], list(range(20)), [3])
    peer.let.set()
    assert len(await outcomes(tasks)) == 4
    assert peer.calls == [[1], [2], list(range(20)), [3]]


async def test_nobody_fails_for_what_another_one_asked(peer: Peer) -> None:
    tasks = await started(Together(peer.double, at_once=1), [1], [2], [-1], [3])
    peer.let.set()
    first, second, wrong, third = await outcomes(tasks)
    assert (first, second, third) == ([2], [4], [6])
    assert isinstance(wrong, InvalidArgument)


@pytest.mark.parametrize("trouble", [Unavailable("gone"), ZeroDivisionError("a bug")])
async def test_what_befalls_the_call_befalls_all_of_its_callers(peer: Peer, trouble: Exception) -> None:
    together = Together(peer.double, at_once=1)
    tasks = await started(together, [1], [2], [3])
    peer.trouble = trouble
    peer.let.set()
    assert await outcomes(tasks) == [trouble] * 3
    peer.trouble = None
    assert await together([4]) == [8], "the place is free again"


async def test_who_gives_up_takes_along_what_has_not_left(peer: Peer) -> None:
    tasks = await started(Together(peer.double, at_once=1), [1], [2], [3])
    tasks[1].cancel()
    await asyncio.sleep(0)
    peer.let.set()
    first, gone, third = await outcomes(tasks)
    assert (first, third) == ([2], [6])
    assert isinstance(gone, asyncio.CancelledError)
    assert peer.calls == [[1], [3]]


async def test_who_gives_up_what_has_left_leaves_the_others_theirs(peer: Peer) -> None:
    tasks = await started(Together(peer.double, at_once=1), [1], [2], [3])
    tasks[0].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert peer.calls == [[1], [2, 3]]
    tasks[1].cancel()
    await asyncio.sleep(0)
    peer.let.set()
    assert (await outcomes(tasks))[2] == [6]


async def test_a_call_lasts_until_the_last_of_its_callers_deadlines(peer: Peer) -> None:
    together = Together(peer.double, at_once=1)

    async def within(seconds: float, number: int) -> list[int]:
        deadline_in(seconds)
        return await together([number])

    tasks = [asyncio.create_task(within(seconds, n)) for n, seconds in enumerate((1.0, 2.0, 9.0, 3.0))]
    await asyncio.sleep(0.05)
    peer.let.set()
    await outcomes(tasks)
    assert peer.deadlines_s[0] == pytest.approx(1.0, abs=0.5)
    assert peer.deadlines_s[1] == pytest.approx(8.95, abs=0.5)
