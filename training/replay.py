"""A log played again in the order of its times, month by month: what a platform would have answered that was retrained
every month, and what one that never was.

A month's models know what was known when it began (`training.past`). Each person's first basket of the month is asked
for, with everything they had done until then; items that come during the month are given to the platform before the
first question of the day after. Training, and which services answer, are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self

import numpy as np
from rich.progress import Progress

from training.baselines import Baseline, Bought, Popularity
from training.dataset import Dataset
from training.gate import Numbers, standard_error
from training.intervals import Columns
from training.measures import Places, column, ndcg
from training.past import Past
from training.questions import Question, questions
from training.rankings import DEEPEST, EvaluationSettings, ask, baseline_places
from training.split import Mask, Split
from winnow.errors import InvalidArgument
from winnow.features import DAY_S, Ints
from winnow.ports import Ranking, Retrieval
from winnow.types import Item

HR, NDCG = f"hr@{DEEPEST}", f"ndcg@{DEEPEST}"
RETRAINED, NEVER, POPULARITY, BOUGHT = "retrained", "never", "popularity", "bought before"
KNOWN_SHARE = 0.2  # of all acts, that the first models of a replay have at least to learn from


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def named(cls, name: str) -> Self:
        """InvalidArgument unless it reads like 2010-06."""
        try:
            found = datetime.strptime(name, "%Y-%m").replace(tzinfo=UTC)
        except ValueError as wrong:
            raise InvalidArgument(f"{name!r} is no month; write it like 2010-06", field="first") from wrong
        return cls(found.year, found.month)

    @classmethod
    def of(cls, moment: float) -> Self:
        at = datetime.fromtimestamp(moment, UTC)
        return cls(at.year, at.month)

    def next(self) -> Month:
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def start(self) -> float:
        """Its first moment, seconds since 1970."""
        return datetime(self.year, self.month, 1, tzinfo=UTC).timestamp()

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"


def months(dataset: Dataset, first: Month | None = None, most: int = 0) -> list[Month]:
    """From `first` (or the first month that enough acts precede) those in which somebody acted; `most` (0: all)."""
    at = dataset.acts.at
    month = first or Month.of(float(np.quantile(at, KNOWN_SHARE))).next()
    if not at[0] < month.start <= at[-1]:
        raise InvalidArgument(f"acts reach from {Month.of(at[0])} to {Month.of(at[-1])}", field="first")
    found: list[Month] = []
    while month.start <= at[-1] and (len(found) < most or not most):
        if within(dataset, month).any():
            found.append(month)
        month = month.next()
    return found


def within(dataset: Dataset, month: Month) -> Mask:
    """Which acts are of a month."""
    at = dataset.acts.at
    return (at >= month.start) & (at < month.next().start)


def asked_in(whole: Dataset, month: Month) -> list[Question]:
    """The first basket of each person in a month, in the order of time."""
    return sorted(questions(whole, only_test(within(whole, month))), key=lambda one: one.before)


def only_test(test: Mask) -> Split:
    nothing = np.zeros_like(test)
    return Split(nothing, nothing, nothing, test)


# ---------------------------------------------------------------------------------------------- answers


class Platform(Protocol):
    """The two stages of a platform that serves one pair of bundles."""

    @property
    def retrieval(self) -> Retrieval: ...

    @property
    def ranking(self) -> Ranking: ...

    async def take(self, items: Sequence[Item]) -> None:
        """Returns when these new items can be answered."""
        ...


@dataclass(frozen=True, eq=False)
class Answers:
    """Places in the order of retrieval, and as the ranker puts them."""

    retrieved: Places
    ranked: Places


async def answers(
    past: Past, month: Month, asked: Sequence[Question], platform: Platform, progress: Progress | None, title: str
) -> Answers:
    """Ask a platform, which knows the items that were known at the start of the month, day by day."""
    known = {item.item_id for item in past.items(month.start)}
    bar = None if progress is None else progress.add_task(title, total=len(asked))
    retrieved: list[Ints] = []
    ranked: list[Ints] = []
    for day in days(asked):
        new = past.items(moment_of(day[0]), besides=known)
        if new:
            await platform.take(new)
            known.update(item.item_id for item in new)
        found = await ask(day, platform.retrieval, platform.ranking, EvaluationSettings(), past.whole.repeats)
        retrieved += found.retrieved
        ranked += found.ranked
        if progress is not None and bar is not None:
            progress.advance(bar, len(day))
    return Answers(retrieved, ranked)


def days(asked: Sequence[Question]) -> list[list[Question]]:
    """Questions in the order of time, those of one day together."""
    found: dict[int, list[Question]] = {}
    for one in asked:
        found.setdefault(int(moment_of(one) // DAY_S), []).append(one)
    return [*found.values()]


def moment_of(question: Question) -> float:
    return float(question.dataset.acts.at[question.before])


def references(whole: Dataset, month: Month, asked: Sequence[Question]) -> dict[str, Places]:
    """What needs no training, of the acts before the month: what everybody bought, and what that person did."""
    parts, repeat = only_test(whole.acts.at >= month.start), whole.repeats
    models: dict[str, Baseline] = {POPULARITY: Popularity()}
    if repeat:
        models[BOUGHT] = Bought()
    return {
        name: baseline_places(model, whole, parts, asked, EvaluationSettings(), repeat)
        for name, model in models.items()
    }


# ---------------------------------------------------------------------------------------------- figures


def columns(asked: Sequence[Question], places: Places) -> Columns:
    """One number per question: was a right item among the first 20, and how early did all of them come."""
    pairs = [*zip(asked, places, strict=True)]
    return {
        HR: column(float(np.isin(place[:DEEPEST], one.relevant).any()) for one, place in pairs),
        NDCG: column(ndcg(one, place, DEEPEST, np.ones(len(one.relevant), np.float32)) for one, place in pairs),
    }


def figures(month: Month, asked: Sequence[Question], found: Mapping[str, Places]) -> dict[str, Any]:
    """A month's means by measure and series, and what retraining gained, with the standard error of that mean."""
    each = {series: columns(asked, places) for series, places in found.items()}
    gains = {name: each[RETRAINED][name] - each[NEVER][name] for name in (HR, NDCG)}
    return {
        "month": str(month),
        "people": len(asked),
        "newcomers": sum(not len(one.history) for one in asked),
        **{name: {series: rounded(own[name].mean()) for series, own in each.items()} for name in (HR, NDCG)},
        "gain": {name: [rounded(gain.mean()), rounded(error_of(gain))] for name, gain in gains.items()},
    }


def error_of(gain: Numbers) -> float:
    return standard_error(gain) if len(gain) > 1 else 0.0


def overall(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The months as one, each person of each month counting once. In the first both platforms are the same, so it says
    nothing of retraining: it is left out."""
    later = found[1:]
    people = np.asarray([month["people"] for month in later], np.float64)
    if not people.sum():
        return {}
    shares = people / people.sum()

    def mean(values: Sequence[float]) -> float:
        return rounded(float(shares @ np.asarray(values)))

    def noise(errors: Sequence[float]) -> float:
        return rounded(float(np.sqrt((shares**2) @ np.square(errors))))

    return {
        "people": int(people.sum()),
        **{
            name: {series: mean([month[name][series] for month in later]) for series in later[0][name]}
            for name in (HR, NDCG)
        },
        "gain": {
            name: [mean([m["gain"][name][0] for m in later]), noise([m["gain"][name][1] for m in later])]
            for name in (HR, NDCG)
        },
    }


def rounded(value: float) -> float:
    return round(float(value), 6)
