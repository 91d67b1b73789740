"""Lists of candidates with what happened then: asked of retrieval moment by moment, labelled, thinned, as columns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset, Rows
from training.moments import Moment
from winnow.artifacts import Bundle
from winnow.candidate_features import ACTED, candidate_names, candidate_numbers
from winnow.encoding import Schema
from winnow.errors import FailedPrecondition
from winnow.features import CLOCK, UserView
from winnow.ports import Retrieval, RetrieveQuery
from winnow.types import Candidates, Floats, Strings

Part = Literal["rank", "calibrate"]
PARTS: tuple[Part, ...] = ("rank", "calibrate")
Answer = tuple[UserView, Candidates]


@dataclass(frozen=True, slots=True)
class ImpressionSettings:
    """How many lists, and how long. More moments than the limits are sampled evenly."""

    candidates: int = 500  # asked of retrieval per moment; as many as the gateway asks for
    rank_moments: int = 60_000
    calibrate_moments: int = 2_000
    top: int = 8  # rows kept from the head of a list, besides the acted-on one
    negatives: int = 32  # rows kept in all, besides the acted-on one
    batch: int = 64  # moments per call of retrieval
    fitted_on: int = 4_000  # moments that vocabularies and scales are taken from
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Lists:
    """m moments and their r rows: those of moment k are starts[k] … starts[k + 1]. Ids as `Schema.encode` gives them."""

    user_ids: Rows  # (m, W)
    user_numbers: Floats  # (m, D)
    starts: Rows  # (m + 1,)
    item: Rows  # (r,) rows of the data set's items
    candidates: Floats  # (r, C) raw
    click: npt.NDArray[np.bool_]  # (r,)
    convert: npt.NDArray[np.bool_]  # (r,)
    value: Floats  # (r,)
    weight: Floats  # (r,) rows of the whole list that this one stands for

    def __len__(self) -> int:
        return len(self.user_ids)

    @property
    def listed(self) -> npt.NDArray[np.bool_]:
        """(m,): something in the list was acted on."""
        before = np.concatenate([[0], np.cumsum(self.click)])
        return np.diff(before[self.starts]) > 0

    @classmethod
    def joined(cls, parts: Sequence[Lists]) -> Self:
        sizes = np.concatenate([np.diff(part.starts) for part in parts])
        columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        return cls(**columns | {"starts": np.concatenate([[0], np.cumsum(sizes)])})


def empty_lists(user: Schema, candidates: int) -> Lists:
    return Lists(
        user_ids=np.empty((0, user.width), np.int64),
        user_numbers=np.empty((0, len(user.numeric)), np.float32),
        starts=np.zeros(1, np.int64),
        item=np.empty(0, np.int64),
        candidates=np.empty((0, candidates), np.float32),
        click=np.empty(0, np.bool_),
        convert=np.empty(0, np.bool_),
        value=np.empty(0, np.float32),
        weight=np.empty(0, np.float32),
    )


@dataclass(frozen=True, eq=False)
class Kept:
    """Places kept of one list (or -1 for a shown item that retrieval does not propose), their items and weights."""

    places: Rows
    items: Rows
    weights: Floats


class Asker:
    """Asks the retrieval service that serves `bundle` what it would have shown."""

    def __init__(
        self,
        dataset: Dataset,
        retrieval: Retrieval,
        bundle: Bundle,
        user: Schema,
        settings: ImpressionSettings,
    ) -> None:
        self.dataset, self.retrieval, self.bundle = dataset, retrieval, bundle
        self.user, self.settings = user, settings
        self.names: tuple[str, ...] = ()
        self.row = {item_id: row for row, item_id in enumerate(dataset.item_ids)}
        self.item = {item.item_id: item for item in dataset.items}

    async def start(self, first: Moment) -> None:
        """Learn what retrieval's answers look like."""
        [(_, candidates)] = await self._ask([first])
        acted = [name for name in ACTED if self.dataset.clock == "real" or name not in CLOCK]
        self.names = candidate_names(candidates.source_names, acted if self.dataset.repeats else ())

    async def lists(self, chunk: Sequence[Moment], part: Part, rng: np.random.Generator) -> Lists:
        """The lists of some moments, without those that teach nothing."""
        kept = [empty_lists(self.user, len(self.names))]
        async for asked, answers in self._answers(chunk):
            views, rows = [], []
            for moment, (view, candidates) in zip(asked, answers, strict=True):
                some = self._kept(moment, candidates, part, rng)
                if len(some.items):
                    views.append(view)
                    rows.append((moment, candidates, some))
            if rows:
                kept.append(self._columns(views, rows))
        return Lists.joined(kept)

    async def _answers(self, chunk: Sequence[Moment]) -> AsyncIterator[tuple[Sequence[Moment], list[Answer]]]:
        """Batches with their answers; retrieval, which computes elsewhere, works on the next while one is looked at."""
        size = self.settings.batch
        batches = [chunk[start : start + size] for start in range(0, len(chunk), size)]
        ahead = asyncio.create_task(self._ask(batches[0]))
        try:
            for asked, following in zip(batches, [*batches[1:], []], strict=True):
                answers = await ahead
                ahead = asyncio.create_task(self._ask(following))
                await asyncio.sleep(0)  # lets it send its queries
                yield asked, answers
        finally:
            ahead.cancel()

    async def _ask(self, asked: Sequence[Moment]) -> list[Answer]:
        views = [UserView(moment.state(self.dataset), moment.context, self.item.get) for moment in asked]
        queries = [
            RetrieveQuery(
                view.state,
                self.settings.candidates,
                view.context,
                exclude=tuple(self.dataset.item_ids[moment.left_out(self.dataset)].tolist()),
                include_seen=self.dataset.repeats and moment.again,
            )
            for view, moment in zip(views, asked, strict=True)
        ]
        answers = await self.retrieval.retrieve(queries) if queries else []
        for candidates in answers:
            if candidates.bundle != self.bundle.id:
                raise FailedPrecondition(f"retrieval serves bundle {candidates.bundle}, wanted {self.bundle.id}")
            if candidates.skipped:
                raise FailedPrecondition(f"sources of retrieval failed: {', '.join(candidates.skipped)}")
        return list(zip(views, answers, strict=True))

    def _kept(self, moment: Moment, candidates: Candidates, part: Part, rng: np.random.Generator) -> Kept:
        """Which rows to keep; none when the list teaches nothing."""
        if moment.shown:
            place = {item_id: n for n, item_id in enumerate(candidates.item_ids)}
            places = np.asarray([place.get(self.dataset.item_ids[item], -1) for item in moment.shown], np.int64)
            return Kept(places, np.asarray(moment.shown, np.int64), np.ones(len(places), np.float32))
        places, weights = np.arange(len(candidates)), np.ones(len(candidates), np.float32)
        if part == "rank":
            right = np.zeros(len(candidates), np.bool_)
            for item in moment.outcomes:
                right |= candidates.item_ids == self.dataset.item_ids[item]
            places, weights = thinned(right, self.settings, rng) if right.any() else (places[:0], weights[:0])
        items = np.asarray([self.row.get(item_id, -1) for item_id in candidates.item_ids[places]], np.int64)
        known = items >= 0  # the catalogue may have grown since the data set was read
        return Kept(places[known], items[known], weights[known])

    def _columns(self, views: Sequence[UserView], kept: Sequence[tuple[Moment, Candidates, Kept]]) -> Lists:
        ids, numbers = self.user.encode(views)
        outcomes = [moment.outcomes.get(int(item)) for moment, _, rows in kept for item in rows.items]
        return Lists(
            user_ids=ids,
            user_numbers=numbers,
            starts=np.concatenate([[0], np.cumsum([len(rows.items) for _, _, rows in kept])]),
            item=np.concatenate([rows.items for _, _, rows in kept]),
            candidates=np.concatenate(
                [self._numbers(candidates, rows, view) for view, (_, candidates, rows) in zip(views, kept, strict=True)]
            ),
            click=np.asarray([o is not None for o in outcomes], np.bool_),
            convert=np.asarray([o is not None and o.convert for o in outcomes], np.bool_),
            value=np.asarray([0.0 if o is None else o.value for o in outcomes], np.float32),
            weight=np.concatenate([rows.weights for _, _, rows in kept]),
        )

    def _numbers(self, candidates: Candidates, kept: Kept, view: UserView) -> Floats:
        """(k, C); items that no source proposes stand behind the last candidate."""
        lost = kept.places < 0
        numbers = np.empty((len(lost), len(self.names)), np.float32)
        numbers[~lost] = candidate_numbers(candidates, self.names, view)[kept.places[~lost]]
        if lost.any():
            behind = unproposed(self.dataset.item_ids[kept.items[lost]], candidates)
            numbers[lost] = candidate_numbers(behind, self.names, view)
            numbers[lost, self.names.index("log_rank")] = np.log1p(np.float32(len(candidates)))
        return numbers


def unproposed(item_ids: Strings, candidates: Candidates) -> Candidates:
    """Items of which no source of these candidates says anything."""
    n, sources = len(item_ids), candidates.source_names
    return Candidates(item_ids, np.zeros(n, np.uint32), np.zeros((n, len(sources)), np.float32), sources)


def thinned(
    right: npt.NDArray[np.bool_], settings: ImpressionSettings, rng: np.random.Generator
) -> tuple[Rows, Floats]:
    """Places kept of a list (n,), ascending, and how many rows each stands for: what was acted on (`right`) and the top
    stand for themselves, the sampled for all of the rest.
    """
    certain = right.copy()
    certain[np.flatnonzero(~right)[: settings.top]] = True
    rest = np.flatnonzero(~certain)
    some = rng.choice(rest, min(settings.negatives - settings.top, len(rest)), replace=False)
    weights = certain.astype(np.float32)
    weights[some] = len(rest) / max(len(some), 1)
    kept = np.flatnonzero(weights)
    return kept, weights[kept]
