"""Lists of candidates with what happened then: asked of retrieval moment by moment, labelled, thinned, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset, Rows
from training.moments import Moment
from winnow.artifacts import Bundle
from winnow.errors import FailedPrecondition
from winnow.features import Schema, UserView, candidate_names, candidate_numbers
from winnow.ports import Retrieval, RetrieveQuery
from winnow.types import Candidates, Floats

Part = Literal["rank", "calibrate"]
PARTS: tuple[Part, ...] = ("rank", "calibrate")


@dataclass(frozen=True, slots=True)
class ImpressionSettings:
    """How many lists, and how long. More moments than the limits are sampled evenly."""

    candidates: int = 300  # asked of retrieval per moment
    rank_moments: int = 60_000
    calibrate_moments: int = 2_000
    top: int = 8  # rows kept from the head of a list, besides the acted-on one
    negatives: int = 32  # rows kept in all, besides the acted-on one
    batch: int = 64  # moments per call of retrieval
    fitted_on: int = 10_000  # moments that vocabularies and scales are taken from
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
        self.names = candidate_names(candidates.source_names)

    async def lists(self, chunk: Sequence[Moment], part: Part, rng: np.random.Generator) -> Lists:
        """The lists of some moments, without those that teach nothing."""
        kept = [empty_lists(self.user, len(self.names))]
        for start in range(0, len(chunk), self.settings.batch):
            asked = chunk[start : start + self.settings.batch]
            views, rows = [], []
            for moment, (view, candidates) in zip(asked, await self._ask(asked), strict=True):
                if row := self._rows(moment, candidates, part, rng):
                    views.append(view)
                    rows.append((moment, candidates, row))
            if rows:
                kept.append(self._columns(views, rows))
        return Lists.joined(kept)

    async def _ask(self, asked: Sequence[Moment]) -> list[tuple[UserView, Candidates]]:
        views = [UserView(moment.state(self.dataset), moment.context, self.item.get) for moment in asked]
        queries = [RetrieveQuery(view.state, self.settings.candidates, view.context) for view in views]
        answers = await self.retrieval.retrieve(queries)
        for candidates in answers:
            if candidates.bundle != self.bundle.id:
                raise FailedPrecondition(f"retrieval serves bundle {candidates.bundle}, wanted {self.bundle.id}")
            if candidates.skipped:
                raise FailedPrecondition(f"sources of retrieval failed: {', '.join(candidates.skipped)}")
        return list(zip(views, answers, strict=True))

    def _rows(self, moment: Moment, candidates: Candidates, part: Part, rng: np.random.Generator) -> Kept | None:
        """Which rows to keep; None when the list teaches nothing."""
        known = np.asarray([self.row.get(item_id, -1) for item_id in candidates.item_ids], np.int64)
        if moment.shown:
            place = {int(item): n for n, item in enumerate(known)}
            places = np.asarray([place.get(item, -1) for item in moment.shown], np.int64)
            return Kept(places, np.asarray(moment.shown, np.int64), np.ones(len(places), np.float32))
        places = np.flatnonzero(known >= 0)
        weights = np.ones(len(places), np.float32)
        if part == "rank":
            right = np.isin(known[places], list(moment.outcomes))
            if not right.any():
                return None
            places, weights = thinned(places, right, self.settings, rng)
        return Kept(places, known[places], weights) if len(places) else None

    def _columns(self, views: Sequence[UserView], kept: Sequence[tuple[Moment, Candidates, Kept]]) -> Lists:
        ids, numbers = self.user.encode(views)
        outcomes = [moment.outcomes.get(int(item)) for moment, _, rows in kept for item in rows.items]
        return Lists(
            user_ids=ids,
            user_numbers=numbers,
            starts=np.concatenate([[0], np.cumsum([len(rows.items) for _, _, rows in kept])]),
            item=np.concatenate([rows.items for _, _, rows in kept]),
            candidates=np.concatenate([self._numbers(candidates, rows.places) for _, candidates, rows in kept]),
            click=np.asarray([o is not None for o in outcomes], np.bool_),
            convert=np.asarray([o is not None and o.convert for o in outcomes], np.bool_),
            value=np.asarray([0.0 if o is None else o.value for o in outcomes], np.float32),
            weight=np.concatenate([rows.weights for _, _, rows in kept]),
        )

    def _numbers(self, candidates: Candidates, places: Rows) -> Floats:
        """(k, C); an item that no source proposes stands behind the last candidate."""
        numbers = candidate_numbers(candidates, self.names)
        behind = np.zeros((1, len(self.names)), np.float32)
        behind[0, self.names.index("log_rank")] = np.log1p(np.float32(len(candidates)))
        return np.concatenate([numbers, behind])[places]


def thinned(
    places: Rows, right: npt.NDArray[np.bool_], settings: ImpressionSettings, rng: np.random.Generator
) -> tuple[Rows, Floats]:
    """Places kept of a list, ascending, and how many rows each stands for: what was acted on and the top stand for
    themselves, the sampled for all of the rest.
    """
    certain = right.copy()
    certain[np.flatnonzero(~right)[: settings.top]] = True
    rest = np.flatnonzero(~certain)
    some = rng.choice(rest, min(settings.negatives - settings.top, len(rest)), replace=False)
    weights = certain.astype(np.float32)
    weights[some] = len(rest) / max(len(some), 1)
    kept = np.flatnonzero(weights)
    return places[kept], weights[kept]
