"""Nobody waits for a peer that is down, and nobody waits to find out whether it is back."""

from __future__ import annotations

import asyncio
import time

import pytest

from winnow.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from winnow.guarded import Guarded
from winnow.pipeline import Run, deadline_in

OPEN_S = 0.3
BUDGET_S = 0.05


class Peer:
    """Answers at once, fails with `trouble`, or hangs; knows who asked."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.hangs = False
        self.asked = 0

    async def answer(self) -> str:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(60)
        if self.trouble:
            raise self.trouble
        return "well"


async def ask(guard: Guarded, peer: Peer) -> str:
    """As a stage does."""
    return await Run().optional("it", guard(peer.answer), BUDGET_S, lambda: "skipped")


async def opened(guard: Guarded, peer: Peer) -> None:
    for _ in range(3):
        assert await ask(guard, peer) == "skipped"
    asked = peer.asked
    assert await ask(guard, peer) == "skipped"
    assert peer.asked == asked, "a peer that is down was asked"


@pytest.fixture
def guard() -> Guarded:
    return Guarded("it", failures=3, open_s=OPEN_S)


@pytest.mark.parametrize("trouble", [Unavailable("away"), DeadlineExceeded("late")], ids=str)
async def test_a_peer_that_is_down_is_left_alone(guard: Guarded, trouble: Exception) -> None:
    peer = Peer()
    peer.trouble = trouble
    await opened(guard, peer)


async def test_a_peer_that_hangs_costs_the_budget_a_few_times_and_then_nothing_even_while_it_is_asked_again(
    guard: Guarded,
) -> None:
    peer = Peer()
    peer.hangs = True
    begins = time.monotonic()
    await opened(guard, peer)
    waits = []
    async with asyncio.timeout(30):
        while peer.asked < 6:
            began = time.monotonic()
            assert await ask(guard, peer) == "skipped"
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.005)
    assert sorted(waits)[len(waits) // 2] < BUDGET_S / 5
    assert time.monotonic() - begins > 3 * OPEN_S, "it is asked again at most once every OPEN_S"


async def test_a_peer_that_is_back_is_used_again(guard: Guarded) -> None:
    peer = Peer()
    peer.hangs = True
    await opened(guard, peer)
    peer.hangs = False
    await asyncio.sleep(OPEN_S)
    assert await ask(guard, peer) == "skipped", "the call that probes goes on without its answer"
    await asyncio.sleep(0.01)
    assert await ask(guard, peer) == "well"


@pytest.mark.parametrize("refusal", [InvalidArgument("wrong", field="n"), ResourceExhausted("full")], ids=str)
async def test_a_refusal_shows_that_the_peer_lives(guard: Guarded, refusal: Exception) -> None:
    peer = Peer()
    peer.trouble = refusal
    for n in range(1, 8):
        with pytest.raises(type(refusal)):
            await guard(peer.answer)
        assert peer.asked == n


async def test_a_client_who_leaves_says_nothing_about_the_peer(guard: Guarded) -> None:
    peer = Peer()
    peer.hangs = True
    for n in range(1, 8):
        leaving = asyncio.create_task(Run().optional("it", guard(peer.answer), 10.0, lambda: "skipped"))
        await asyncio.sleep(0.001)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert peer.asked == n


async def test_a_stage_that_the_loop_ends_a_millisecond_early_was_late(guard: Guarded) -> None:
    """As uvloop does, whose timers count whole milliseconds."""
    peer = Peer()
    peer.hangs = True

    async def stage() -> None:
        deadline_in(0.021)
        async with asyncio.timeout(0.02):
            await guard(peer.answer)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.create_task(stage())
    with pytest.raises(Unavailable):
        await guard(peer.answer)
    assert peer.asked == 3


async def test_a_bug_in_a_probe_is_no_silence(guard: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    peer.trouble = Unavailable("away")
    await opened(guard, peer)
    peer.trouble = ValueError("a bug")
    await asyncio.sleep(OPEN_S)
    assert await ask(guard, peer) == "skipped"
    await asyncio.sleep(0.01)
    assert "a bug" in caplog.text
    with pytest.raises(ValueError, match="a bug"):
        await ask(guard, peer)
