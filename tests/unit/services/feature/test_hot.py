"""A bug in what writes hot states is loud, and the mark in Redis never passes what it left out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.feature.hot import WriteThrough
from services.feature.hot_rows import Facts
from tests.events import click, features
from winnow.hot_state import Mark


class Store:
    """A Redis that holds the mark alone."""

    def __init__(self) -> None:
        self.there: Mark | None = None
        self.bug = False

    def mark(self) -> Mark | None:
        return self.there

    def begin(self, mark: Mark) -> None:
        self.there = mark

    def write(self, rows: Sequence[Any], move: tuple[Mark | None, Mark] | None = None) -> bool:
        if self.bug and rows:
            raise ValueError("a bug")
        if move is not None:
            self.there = move[1]
        return True

    def close(self) -> None: ...


async def test_a_bug_ends_the_loop_and_the_mark_stays_where_it_was(tmp_path: Path) -> None:
    service, store = features(tmp_path / "home"), Store()
    facts = Facts(service._catalogue.get)
    service._hot = hot = WriteThrough(service._people, facts, store, tmp_path / "log", 1.0)  # type: ignore[arg-type]
    beside = asyncio.create_task(service.keep_hot())
    while not hot.current:
        await asyncio.sleep(0.01)
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
