"""A retrieval service of a page, for tests of what comes after it: candidates by counting, no model.

Sources: `sequence` (what followed the newest act in training), `item_to_item` (what shares histories with it) and
`trending`. Good enough that a ranker has something to learn, small enough to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.only_retrieves import OnlyRetrieves
from training.dataset import Dataset
from winnow.artifacts import Bundle, seal
from winnow.features import item_stats
from winnow.ports import RetrieveQuery
from winnow.types import Candidates

NAMES = ("sequence", "item_to_item", "trending")


class CountingRetrieval(OnlyRetrieves):
    """The retrieval port over counts of the acts `train` (a mask) of a data set."""

    def __init__(self, dataset: Dataset, train: npt.NDArray[np.bool_], path: Path) -> None:
        n = len(dataset.items)
        self.item_ids = dataset.item_ids
        self.row = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self.follows = np.zeros((n, n), np.float32)
        self.together = np.zeros((n, n), np.float32)
        for person in range(len(dataset.people)):
            acts = dataset.acts_of(person)
            rows = dataset.acts.item[acts[train[acts]]]
            np.add.at(self.follows, (rows[:-1], rows[1:]), 1.0)
            for step in range(2, 6):
                np.add.at(self.together, (rows[:-step], rows[step:]), 1.0)
        rows = dataset.acts.item[train]
        stats_at = float(dataset.acts.at[train].max())
        stats = item_stats(rows, dataset.acts.at[train], dataset.acts.value[train], n, stats_at)
        self.trend = (stats["recent"] / max(stats["recent"].max(), 1e-9)).astype(np.float32)
        for table in (self.follows, self.together):
            table /= np.sqrt(stats["count"] + 5.0, dtype=np.float32)
        self.bundle = write_bundle(path, dataset, stats, stats_at)

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        return [self._answer(query) for query in queries]

    def _answer(self, query: RetrieveQuery) -> Candidates:
        last = [self.row[item_id] for item_id in query.user.history.item_ids[-1:]]
        follows = self.follows[last].sum(axis=0) if last else np.zeros_like(self.trend)
        together = self.together[last].sum(axis=0) if last else np.zeros_like(self.trend)
        scores = np.stack([follows, together, self.trend], axis=1).astype(np.float32)
        merit = scores @ np.array([1.0, 0.5, 0.1], np.float32)
        if not query.include_seen:
            merit[[self.row[item_id] for item_id in query.user.seen]] = -1.0
        merit[[self.row[item_id] for item_id in query.exclude]] = -1.0
        best = np.argsort(-merit, kind="stable")[: query.n]
        best = best[merit[best] >= 0]
        sources = ((scores[best] > 0) << np.arange(3)).sum(axis=1).astype(np.uint32)
        return Candidates(self.item_ids[best], sources, scores[best], NAMES, self.bundle.id)


def write_bundle(path: Path, dataset: Dataset, stats: dict[str, Any], stats_at: float) -> Bundle:
    """As much of a retrieval bundle as the ranker's training reads."""
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({"item_id": pa.array(list(dataset.item_ids), pa.string()), **stats}), path / "stats.parquet"
    )
    return seal(path, "retrieval", facts={"stats_at": stats_at}, metrics={}, data={"snapshot": dataset.snapshot})
