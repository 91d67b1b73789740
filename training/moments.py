"""The moments that a ranker learns from: who looked for something, when, and what they did then.

A logged request is a moment with what was shown. Where nothing was logged, every act is a moment, or every basket: retrieval
is asked what it would have shown, and what was done says what was right. A moment knows the number of acts that had happened before
it; whatever is known of the person is asked with that number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from training.dataset import Dataset, Rows
from training.split import Split
from winnow.acts import CODES
from winnow.types import Context, EventType, UserState

ATTRIBUTION_S = 86_400.0  # an act counts for what was shown to that person up to this long before
BOUGHT = (CODES[EventType.CART], CODES[EventType.PURCHASE])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a person did with an item: it was acted on; `convert` as `Dataset.positive_value` says; `value` is money
    paid or rating points, never negative."""

    convert: bool
    value: float


@dataclass(frozen=True, slots=True)
class Moment:
    """One list for one person. `outcomes` is by item row; `shown` are item rows, empty where nothing was logged."""

    person: int
    before: int
    at: float
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    shown: tuple[int, ...] = ()

    def state(self, dataset: Dataset) -> UserState:
        return dataset.state(self.person, self.before)

    @property
    def context(self) -> Context:
        return Context(at=datetime.fromtimestamp(self.at, UTC))


@dataclass(frozen=True)
class Moments:
    """Of the two parts that concern the ranker, in log order."""

    rank: list[Moment]
    calibrate: list[Moment]


def moments(dataset: Dataset, split: Split) -> Moments:
    """All moments of the parts `rank` and `calibrate`; an act that answers a logged request is no moment of its own."""
    found: dict[str, list[Moment]] = {"rank": [], "calibrate": []}
    attributed = np.zeros(len(dataset.acts), np.bool_)
    for part, moment, acts in logged(dataset, split):
        attributed[acts] = True
        if part in found:
            found[part].append(moment)
    for part, mask in (("rank", split.rank), ("calibrate", split.calibrate)):
        wanted = mask & ~attributed & (dataset.acts.type != CODES[EventType.DISMISS])
        found[part] += [imagined(dataset, acts) for acts in together(dataset, np.flatnonzero(wanted))]
        found[part].sort(key=lambda moment: moment.before)
    return Moments(found["rank"], found["calibrate"])


def together(dataset: Dataset, acts: Rows) -> Iterator[Rows]:
    """Acts one by one; where people act on several things at once, those of one person at one time as one: what a basket
    holds is not known before it is filled."""
    if not dataset.repeats:
        yield from acts[:, None]
        return
    user, at = dataset.acts.user[acts], dataset.acts.at[acts]
    order = np.lexsort((acts, at, user))
    user, at = user[order], at[order]
    begins = 1 + np.flatnonzero((user[1:] != user[:-1]) | (at[1:] != at[:-1]))
    yield from (basket for basket in np.split(acts[order], begins) if len(basket))


def imagined(dataset: Dataset, basket: Rows) -> Moment:
    """The moment right before some acts of one person."""
    acts, first = dataset.acts, int(basket[0])
    outcomes: dict[int, Outcome] = {}
    for act in basket.tolist():
        item = int(acts.item[act])
        outcomes[item] = merged(outcomes.get(item), outcome(dataset, act))
    return Moment(int(acts.user[first]), first, float(acts.at[first]), outcomes)


def logged(dataset: Dataset, split: Split) -> Iterator[tuple[str, Moment, list[int]]]:
    """The part, the moment and the attributed acts of each request that the log holds impressions of."""
    shown = dataset.impressions
    part_at = Parts(dataset, split)
    for rows in requests(dataset):
        first = int(rows[0])
        person, at = int(shown.user[first]), float(shown.at[first])
        before = acts_before(dataset, at, int(shown.log_position[first]))
        items = tuple(dict.fromkeys(shown.item[rows].tolist()))
        outcomes, acts = answers(dataset, person, before, at, items)
        yield part_at(person, before), Moment(person, before, at, outcomes, items), acts


def requests(dataset: Dataset) -> Iterator[Rows]:
    """Rows of the impressions of each request; those without a request id belong together by person and time."""
    shown = dataset.impressions
    groups: dict[tuple[int, str | float], list[int]] = {}
    for row, (person, request, at) in enumerate(zip(shown.user, shown.request_id, shown.at, strict=True)):
        groups.setdefault((int(person), request or float(at)), []).append(row)
    for rows in groups.values():
        yield np.asarray(rows, np.int64)


def answers(
    dataset: Dataset, person: int, before: int, at: float, items: Sequence[int]
) -> tuple[dict[int, Outcome], list[int]]:
    """What the person did with `items` from act `before` on, while it counts, and the acts that say so."""
    outcomes: dict[int, Outcome] = {}
    counted = []
    own = dataset.acts_of(person)
    end = np.searchsorted(dataset.acts.at, at + ATTRIBUTION_S, "right")
    for act in own[np.searchsorted(own, before) : np.searchsorted(own, end)].tolist():
        item = int(dataset.acts.item[act])
        if item in items:
            counted.append(act)
            if dataset.acts.type[act] != CODES[EventType.DISMISS]:
                outcomes[item] = merged(outcomes.get(item), outcome(dataset, act))
    return outcomes, counted


def merged(earlier: Outcome | None, later: Outcome) -> Outcome:
    if earlier is None:
        return later
    return Outcome(earlier.convert or later.convert, max(earlier.value, later.value))


def outcome(dataset: Dataset, act: int) -> Outcome:
    """What one act says of its item."""
    kind, value = dataset.acts.type[act], float(dataset.acts.value[act])
    if kind == CODES[EventType.RATING]:
        return Outcome(value >= dataset.positive_value, max(value, 0.0))
    if kind == CODES[EventType.PURCHASE]:
        price = dataset.items[dataset.acts.item[act]].price if math.isnan(value) else value
        return Outcome(True, max((price or 0.0) * int(dataset.acts.quantity[act]), 0.0))
    return Outcome(kind in BOUGHT, 0.0)


def acts_before(dataset: Dataset, at: float, log_position: int) -> int:
    """How many acts had happened when an impression was logged."""
    low, high = np.searchsorted(dataset.acts.at, at, "left"), np.searchsorted(dataset.acts.at, at, "right")
    return int(low + np.searchsorted(dataset.acts.log_position[low:high], log_position))


class Parts:
    """Which part a request belongs to: by time where the parts follow each other, else the person's next act's."""

    NAMES = ("train", "rank", "calibrate", "test")

    def __init__(self, dataset: Dataset, split: Split) -> None:
        self.dataset = dataset
        self.part = np.select([split.rank, split.calibrate, split.test], [1, 2, 3], 0)
        self.by_time = bool((np.diff(self.part) >= 0).all())

    def __call__(self, person: int, before: int) -> str:
        own = np.arange(len(self.part)) if self.by_time else self.dataset.acts_of(person)
        if not len(own):
            return "train"
        act = own[min(int(np.searchsorted(own, before)), len(own) - 1)]
        return self.NAMES[self.part[act]]
