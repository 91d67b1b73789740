"""The gateway's own list: what was popular, then anything else, never what a person has seen, at a bounded price."""

import asyncio
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway import popular
from services.gateway.popular import STRETCH, Popular
from tests.gateways import Inner
from winnow.catalogue import Catalogue
from winnow.ports import RetrieveQuery, TrendingQuery
from winnow.seen import fingerprints
from winnow.types import Bits, Candidates, Item, Person, UserState, strings

ROWS = st.lists(st.integers(0, 29), max_size=30, unique=True)
SHOWN_ELSEWHERE = st.lists(st.integers(0, 34), max_size=35, unique=True)  # from 30 on: not in this catalogue yet


class Trending(Inner):
    """A retrieval that names these items as the popular ones."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__()
        self.ids = ids

    async def trending(self, query: TrendingQuery) -> Candidates:
        return Candidates(
            strings(self.ids), np.ones(len(self.ids), np.uint32), np.zeros((len(self.ids), 1), "f4"), ("t",)
        )


def remembering(size: int, ids: Sequence[str]) -> Popular:
    """A list over a catalogue of `size` items that remembers `ids` as popular."""
    catalogue = Catalogue()
    catalogue.upsert(Item(f"i{n}") for n in range(size))
    made = Popular(catalogue, 1_000)

    async def remember_once() -> None:
        task = asyncio.create_task(made.remember(Trending(ids), every_s=60))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(remember_once())
    return made


def user(exactly: Iterable[str], tail: Iterable[str]) -> UserState:
    return UserState(Person("u"), seen=strings(list(exactly)), seen_tail=fingerprints(tail))


@settings(deadline=None)
@given(trending=SHOWN_ELSEWHERE, exactly=ROWS, tail=ROWS, exclude=ROWS, n=st.integers(1, 40), again=st.booleans())
def test_the_list_is_the_popular_then_the_others_without_what_was_seen(
    trending: list[int], exactly: list[int], tail: list[int], exclude: list[int], n: int, again: bool
) -> None:
    seen = user((f"i{row}" for row in exactly), (f"i{row}" for row in tail))
    query = RetrieveQuery(seen, n, exclude=tuple(f"i{row}" for row in exclude), include_seen=again)
    found = remembering(30, [f"i{row}" for row in trending]).candidates(query)
    forbidden = {*exclude} if again else {*exclude, *exactly, *tail}
    wanted = [
        row
        for row in [*(r for r in trending if r < 30), *(r for r in range(30) if r not in trending)]
        if row not in forbidden
    ]
    assert found.item_ids.tolist() == [f"i{row}" for row in wanted[:n]]


def test_a_list_longer_than_one_stretch_is_filled_behind_what_was_seen() -> None:
    size = 3 * STRETCH
    seen = user((), (f"i{n}" for n in range(2 * STRETCH)))
    found = remembering(size, ["i5"]).candidates(RetrieveQuery(seen, 10))
    assert found.item_ids.tolist() == [f"i{n}" for n in range(2 * STRETCH, 2 * STRETCH + 10)]


def test_a_long_history_does_not_cost_a_pass_over_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = 0

    def counting(ids: Sequence[str]) -> Bits:
        nonlocal hashed
        hashed += len(ids)
        return fingerprints(ids)

    monkeypatch.setattr(popular, "fingerprints", counting)
    seen = user((), (f"i{n}" for n in range(0, 2_000, 2)))
    found = remembering(50 * STRETCH, [f"i{n}" for n in range(100)]).candidates(RetrieveQuery(seen, 500))
    assert len(found) == 500
    assert hashed <= 100 + STRETCH
