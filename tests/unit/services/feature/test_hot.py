"""A bug in what writes hot states is loud, and the mark in Redis never passes what it left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.feature.hot import CHUNK, WriteThrough
from services.feature.hot_rows import Facts
from tests.events import click, features
from winnow.errors import Unavailable
from winnow.hot_state import Mark


class Store:
    """A Redis that holds the mark, and remembers who was written. Before each of `fails` writes it is away."""

    def __init__(self) -> None:
        self.there: Mark | None = None
        self.bug = False
        self.started = "first"
        self.fails: list[int] = []
        self.calls = 0
        self.written: list[str] = []

    def run_id(self) -> str:
        return self.started

    def mark(self) -> Mark | None:
        return self.there

    def begin(self, mark: Mark) -> None:
        self.there = mark

    def write(self, rows: Sequence[Any], move: tuple[Mark | None, Mark] | None = None) -> bool:
        if self.bug and rows:
            raise ValueError("a bug")
        self.calls += 1
        if self.calls in self.fails:
            raise Unavailable("away")
        self.written += [row.person.user_id for row in rows]
        if move is not None:
            self.there = move[1]
        return True

    def close(self) -> None: ...


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 (nothing tells a test; its time-out ends it)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("restarted", [False, True], ids=["goes on", "begins anew after a restart of Redis"])
async def test_a_catch_up_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool) -> None:
    monkeypatch.setattr("services.feature.hot.RETRY_S", 0.05)
    service, store = features(tmp_path / "home"), Store()
    everybody = [f"u{n}" for n in range(5 * CHUNK)]
    await service.record([click(f"e {one}", user_id=one) for one in everybody])
    facts = Facts(service._catalogue.get)
    service._hot = hot = WriteThrough(service._people, facts, store, tmp_path / "log", 1.0)  # type: ignore[arg-type]
    store.fails = [4]
    beside = asyncio.create_task(service.keep_hot())
    await until(lambda: store.calls >= 4)
    if restarted:
        store.started = "second"
    await service.record([click("late", user_id="u0"), click("late too", user_id="newcomer")])
    await until(lambda: hot.current)
    beside.cancel()
    assert set(store.written) == {*everybody, "newcomer"}
    assert store.written.count("u0") >= 2, "what came in between is missing"
    assert store.written.count("u20") == (2 if restarted else 1)
    assert store.there is not None
    assert store.there.position == len(everybody) + 2
    await service.close()


async def test_a_bug_ends_the_loop_and_the_mark_stays_where_it_was(tmp_path: Path) -> None:
    service, store = features(tmp_path / "home"), Store()
    facts = Facts(service._catalogue.get)
    service._hot = hot = WriteThrough(service._people, facts, store, tmp_path / "log", 1.0)  # type: ignore[arg-type]
    beside = asyncio.create_task(service.keep_hot())
    await until(lambda: hot.current)
    await service.record([click("e1")])
    store.bug = True
    await service.record([click("e2")])
    with pytest.raises(ValueError, match="a bug"):
        await asyncio.wait_for(beside, 5.0)
    store.bug = False
    await service.record([click("e3", user_id="u2")])
    assert store.there is not None
    assert store.there.position == 1
    await service.close()
