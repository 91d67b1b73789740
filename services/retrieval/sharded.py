"""The Retrieval port over several of its kind, each of which answers for a part of the catalogue: ask all, merge.

A part that is down or late costs its items: the answer names it among `skipped`. Parts may be objects of this process or
gRPC clients. Knows nothing of models, nor of who answers for what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from services.retrieval.ask import Found
from services.retrieval.merge import Blend, merge
from winnow.catalogue import Rows
from winnow.errors import Unavailable, WinnowError
from winnow.guarded import Guarded
from winnow.pipeline import Run, remaining_s
from winnow.ports import Retrieval, RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.requests import Readiness
from winnow.types import Candidates, Directions, Floats, Strings

T = TypeVar("T")
Blends = Callable[[Sequence[str]], Sequence[Blend]]
VECTORS = "vectors"
SPARE = 0.85  # of the time that is left: what a part may take, so that the others' answers still get home


class ShardedRetrieval:
    """Over `shards` by name. `blends` say how sources (by name) come together, as they do in each part; `budget_s` is
    the longest that a part may take."""

    def __init__(self, shards: Mapping[str, Retrieval], blends: Blends, budget_s: float) -> None:
        self._shards = dict(shards)
        self._blends = blends
        self._budget_s = budget_s
        self._guards = {name: Guarded(name) for name in shards}
        self._complete = False  # every part has been ready once

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        if not queries:
            return []
        found, lost = await self._scatter(lambda shard: shard.retrieve(queries))
        return [
            gathered([of_shard[n] for of_shard in found], self._blends, query.n, lost)
            for n, query in enumerate(queries)
        ]

    async def similar(self, query: SimilarQuery) -> Candidates:
        found, lost = await self._scatter(lambda shard: shard.similar(query))
        return gathered(found, self._last_resort, query.n, lost)

    async def trending(self, query: TrendingQuery) -> Candidates:
        found, lost = await self._scatter(lambda shard: shard.trending(query))
        return gathered(found, self._last_resort, query.n, lost)

    async def ready(self) -> Readiness:
        """Once every part was; from then on as long as one is."""
        said = await asyncio.gather(*(readiness_of(shard) for shard in self._shards.values()))
        missing = tuple(f"{name}: {text}" for name, one in zip(self._shards, said, strict=True) for text in one.missing)
        self._complete = self._complete or all(one.ready for one in said)
        return Readiness(self._complete and any(one.ready for one in said), missing)

    def _last_resort(self, names: Sequence[str]) -> Sequence[Blend]:
        """Trending has no share of its own where nobody in particular asks: it fills up."""
        blends = self._blends(names)
        return [
            Blend(0.0, b.weight, b.floor) if name == "trending" else b for name, b in zip(names, blends, strict=True)
        ]

    async def _scatter(self, call: Callable[[Retrieval], Awaitable[T]]) -> tuple[list[T], tuple[str, ...]]:
        """The answers of the parts that gave one in time, and the names of the others; Unavailable when none did."""
        run = Run()
        budget_s = min(self._budget_s, SPARE * remaining_s(self._budget_s / SPARE))
        answers = await asyncio.gather(*(self._one(run, name, call, budget_s) for name in self._shards))
        found = [answer for answer in answers if answer is not None]
        if not found:
            raise Unavailable(f"none of the {len(self._shards)} parts of retrieval answers")
        return found, tuple(name for name in self._shards if name in run.skipped)

    async def _one(self, run: Run, name: str, call: Callable[[Retrieval], Awaitable[T]], budget_s: float) -> T | None:
        nothing: T | None = None
        shard, guard = self._shards[name], self._guards[name]
        answer: T | None = await run.optional(name, guard(lambda: call(shard)), budget_s, lambda: nothing)
        return answer


async def readiness_of(shard: Retrieval) -> Readiness:
    try:
        return await shard.ready()
    except WinnowError as away:
        return Readiness(False, (away.detail,))


def gathered(found: Sequence[Candidates], blends: Blends, n: int, lost: Sequence[str] = ()) -> Candidates:
    """The parts' candidates as if one service had found them: a source's proposals of all parts in the order of its
    scores, which mean the same in every part, then the sources merged. Of equal scores every part has its turn."""
    names = tuple(dict.fromkeys(name for one in found for name in one.source_names))
    found = [aligned(one, names) for one in found]
    ids = np.concatenate([one.item_ids for one in found])
    bits = np.concatenate([one.sources for one in found])
    scores = np.concatenate([one.scores for one in found])
    turn = np.concatenate([np.arange(len(one)) for one in found])
    kept = once(ids)
    lists = [proposed(kept[(bits[kept] >> s & 1) > 0], scores[:, s], turn) for s in range(len(names))]
    merged = merge(lists, list(blends(names)), n)
    vectors, unlike = comparable(found)
    return Candidates(
        item_ids=ids[merged.rows],
        sources=merged.sources,
        scores=merged.scores,
        source_names=names,
        bundle="+".join(dict.fromkeys(one.bundle for one in found)),
        skipped=tuple(dict.fromkeys((*lost, *(name for one in found for name in one.skipped), *unlike))),
        vectors=None if vectors is None else vectors[merged.rows],
    )


def comparable(found: Sequence[Candidates]) -> tuple[Directions | None, tuple[str, ...]]:
    """The vectors of all parts, one after the other, as far as they are of one model: during a promotion parts serve two,
    whose vectors say nothing of each other. Where some are left out, they are named as skipped."""
    spaces = [None if one.vectors is None else (one.bundle, one.vectors.shape[1]) for one in found]
    space = next((one for one in spaces if one), None)
    if space is None:
        return None, ()
    known = [
        one.vectors if own == space and one.vectors is not None else np.zeros((len(one), space[1]), np.int8)
        for one, own in zip(found, spaces, strict=True)
    ]
    unlike = any(len(one) and own != space for one, own in zip(found, spaces, strict=True))
    return np.concatenate(known), (VECTORS,) if unlike else ()


def proposed(rows: Rows, scores: Floats, turn: Rows) -> Found:
    """What one source proposed, of all parts, best first."""
    return Found(rows[np.lexsort((rows, turn[rows], -scores[rows]))], lambda wanted: scores[wanted])


def once(ids: Strings) -> Rows:
    """Rising places of every id's first occurrence: an item that changes its part is in two of them for a moment."""
    if len(set(ids)) == len(ids):
        return np.arange(len(ids))
    return np.asarray(sorted({item_id: len(ids) - 1 - n for n, item_id in enumerate(ids[::-1])}.values()), np.int64)


def aligned(one: Candidates, names: tuple[str, ...]) -> Candidates:
    """The same with a column for each of these sources: parts of another release may have others."""
    if one.source_names == names:
        return one
    scores = np.zeros((len(one), len(names)), np.float32)
    bits = np.zeros(len(one), np.uint32)
    for n, name in enumerate(one.source_names):
        scores[:, names.index(name)] = one.scores[:, n]
        bits |= ((one.sources >> n & 1) << names.index(name)).astype(np.uint32)
    return replace(one, scores=scores, sources=bits, source_names=names)
