"""Data sets whose right answer is visible, for tests of the ranker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tests.counting_retrieval import write_bundle
from tests.only_retrieves import OnlyRetrieves
from training.data.source import Source, one
from training.dataset import Dataset, load
from training.ingest import ingest_source
from winnow.features import item_stats
from winnow.ports import RetrieveQuery
from winnow.types import Candidates

START_S = 1_700_000_000
COLOURS = ("red", "green", "blue")


def colour_world(home: Path, people: int = 60, items: int = 90, acts: int = 30, seed: int = 0) -> Dataset:
    """Everybody acts on items of one colour only, which is their gender's; a rating of 5 if its number is even."""
    rng = np.random.default_rng(seed)
    of_person = np.repeat(np.arange(people), acts)
    rows = np.concatenate([rng.permutation(items // 3)[:acts] for _ in range(people)]) * 3 + of_person % 3
    order = rng.permutation(len(rows))
    events = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(rows))],
            "type": "rating",
            "user_id": [f"u{n}" for n in of_person[order]],
            "item_id": [f"i{n}" for n in rows[order]],
            "value": [5.0 if n % 2 == 0 else 2.0 for n in rows[order]],
            "occurred_at": [START_S + 60.0 * n for n in range(len(rows))],
        }
    )
    catalogue = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(items)],
            "title": [f"Thing {n}" for n in range(items)],
            "categories": [[COLOURS[n % 3]] for n in range(items)],
        }
    )
    traits = pl.DataFrame(
        {"user_id": [f"u{n}" for n in range(people)], "traits.gender": [COLOURS[n % 3] for n in range(people)]}
    )
    return dataset_of(home, events, catalogue, traits)


def dataset_of(home: Path, events: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame) -> Dataset:
    frames = {"events": events, "items": items, "users": users}

    def give(name: str) -> Iterator[pl.DataFrame]:
        return one(frames[name])

    source = Source("colours", "real", "leave-one-out", 4.0, "1", *(lambda n=n: give(n) for n in frames))
    ingest_source(source, home)
    return load(home)


class Killed(Exception):
    """The process ends here."""


class ShuffledRetrieval(OnlyRetrieves):
    """The retrieval port that knows nothing: all unseen items, in an order drawn per person and place in history.

    One source, `noise`, whose scores fall with the place.
    """

    def __init__(self, dataset: Dataset, train: npt.NDArray[np.bool_], path: Path, fails_after: int = 10**9) -> None:
        self.dataset, self.asked, self.fails_after = dataset, 0, fails_after
        acts, n = dataset.acts, len(dataset.items)
        stats_at = float(acts.at[train].max())
        stats = item_stats(acts.item[train], acts.at[train], acts.value[train], n, stats_at)
        self.bundle = write_bundle(path, dataset, stats, stats_at)

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        self.asked += len(queries)
        if self.asked > self.fails_after:
            raise Killed
        return [self._answer(query) for query in queries]

    def _answer(self, query: RetrieveQuery) -> Candidates:
        unseen = self.dataset.item_ids[~np.isin(self.dataset.item_ids, list(query.user.seen))]
        key = sum(query.user.person.user_id.encode()) * 1000 + query.user.events
        chosen = np.random.default_rng(key).permutation(unseen)[: query.n]
        scores = np.linspace(1.0, 0.0, len(chosen), dtype=np.float32)[:, None]
        return Candidates(chosen, np.ones(len(chosen), np.uint32), scores, ("noise",), self.bundle.id)
