"""The two stages of a platform that know little, for tests of what asks them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.only_retrieves import OnlyRetrieves
from training.dataset import Dataset
from winnow.ports import RankQuery, RetrieveQuery
from winnow.requests import Readiness
from winnow.types import Candidates, Predictions


class PopularFirst(OnlyRetrieves):
    """The retrieval port: all allowed items, what is acted on most first. Keeps what it was asked. `hidden`: how many of
    the most popular items it does not know."""

    def __init__(self, dataset: Dataset, hidden: int = 0) -> None:
        counts = np.bincount(dataset.acts.item, minlength=len(dataset.items))
        self.order = dataset.item_ids[np.argsort(-counts, kind="stable")][hidden:]
        self.asked: list[RetrieveQuery] = []

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        self.asked += queries
        return [self._answer(query) for query in queries]

    def _answer(self, query: RetrieveQuery) -> Candidates:
        out = [*query.exclude, *(() if query.include_seen else query.user.seen)]
        chosen = self.order[~np.isin(self.order, out)][: query.n]
        return Candidates(
            chosen, np.ones(len(chosen), np.uint32), np.zeros((len(chosen), 1), np.float32), ("all",), "b"
        )


class ByParity:
    """The ranking port of `tests.training.shops`: likes things whose number has the parity of the last thing acted on,
    none better than another where nothing is known."""

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        return [self._predicted(query) for query in queries]

    def _predicted(self, query: RankQuery) -> Predictions:
        known = query.user.history.item_ids
        numbers = np.array([int(item_id[1:]) for item_id in query.candidates.item_ids], np.int64)
        liked = numbers % 2 == int(known[-1][1:]) % 2 if len(known) else np.zeros(len(numbers), np.bool_)
        click = np.where(liked, 0.1, 0.01).astype(np.float32)
        heads = np.stack([click, click / 2, click * 100], axis=1).astype(np.float32)
        return Predictions(heads, click, "r")

    async def ready(self) -> Readiness:
        return Readiness(True)
