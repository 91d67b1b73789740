"""The moments that a ranker learns from: who looked for something, when, and what they did then.

A logged request is a moment with what was shown. Where nothing was logged, every act is a moment, or every basket: retrieval
is asked what it would have shown, and what was done says what was right. A moment knows the number of acts that had happened before
it; whatever is known of the person is asked with that number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from training.dataset import Dataset, Rows
from training.split import Split
from winnow.acts import CODES, state_of
from winnow.types import Context, EventType, Person, UserState

ATTRIBUTION_S = 86_400.0  # an act counts for what was shown to that person up to this long before
NEWCOMERS = 5  # every so many-th moment is learnt from once more, as a newcomer's
KEPT = (1, 3, 10)  # newest acts known of them, in turn; lists with none known only help where they are real (LOG.md)
BOUGHT = (CODES[EventType.CART], CODES[EventType.PURCHASE])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a person did with an item: it was acted on; `convert` as `Dataset.positive_value` says; `value` is money
    paid or rating points, never negative."""

    convert: bool
    value: float


@dataclass(frozen=True, slots=True)
class Moment:
    """One list for one person. `outcomes` is by item row; `shown` are item rows, empty where nothing was logged; `again`:
    where people act on things again, the list may hold what this person acted on before; `kept`: of a newcomer, whom no
    model has met, how many of the newest acts are known (None: the person as they are)."""

    person: int
    before: int
    at: float
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    shown: tuple[int, ...] = ()
    again: bool = True
    kept: int | None = None

    def state(self, dataset: Dataset) -> UserState:
        if self.kept is None:
            return dataset.state(self.person, self.before)
        return newcomer_state(dataset, self.person, self.before, self.kept)

    def left_out(self, dataset: Dataset) -> Rows:
        """Item rows that must not be answered though the state does not tell: where people do not act on a thing again,
        what a newcomer really had acted on."""
        if self.kept is None or dataset.repeats:
            return np.empty(0, np.int64)
        return np.unique(dataset.acts.item[acts_until(dataset, self.person, self.before)])

    @property
    def context(self) -> Context:
        return Context(at=datetime.fromtimestamp(self.at, UTC))


@dataclass(frozen=True)
class Moments:
    """Of the two parts that concern the ranker, in log order."""

    rank: list[Moment]
    calibrate: list[Moment]


def moments(dataset: Dataset, split: Split) -> Moments:
    """All moments of the parts `rank` and `calibrate`; an act that answers a logged request is no moment of its own.

    Where people act on things again, the ranker learns from both lists that a request may get, with and without those:
    the first place of retrieval means another thing in each. And it learns from newcomers (`as_newcomers`).
    """
    found: dict[str, list[Moment]] = {"rank": [], "calibrate": []}
    attributed = np.zeros(len(dataset.acts), np.bool_)
    for part, moment, acts in logged(dataset, split):
        attributed[acts] = True
        if part in found:
            found[part].append(moment)
    for part, mask in (("rank", split.rank), ("calibrate", split.calibrate)):
        wanted = mask & ~attributed & (dataset.acts.type != CODES[EventType.DISMISS])
        found[part] += [imagined(dataset, acts) for acts in together(dataset, np.flatnonzero(wanted))]
    if dataset.repeats:
        found["rank"] += [replace(moment, again=False) for moment in found["rank"] if not moment.shown]
    found["rank"] += as_newcomers(found["rank"])
    for part in found:
        found[part].sort(key=lambda moment: moment.before)
    return Moments(found["rank"], found["calibrate"])


def as_newcomers(found: Sequence[Moment]) -> list[Moment]:
    """Some moments that were not logged, once more, of somebody whose history is cut to its newest few acts (in the manner
    of DropoutNet, Volkovs, Yu and Poutanen 2017): a person with a short history is met by every platform, and in a data
    set of people with long ones by no ranker."""
    some = [moment for moment in found if moment.again and not moment.shown][::NEWCOMERS]
    return [replace(moment, kept=KEPT[n % len(KEPT)]) for n, moment in enumerate(some)]


def newcomer_state(dataset: Dataset, person: int, before: int, kept: int) -> UserState:
    """What would be known before act `before` of somebody with this person's traits, an id that nobody knows, and only the
    newest `kept` of their acts."""
    whole, own = dataset.state(person, before), acts_until(dataset, person, before)
    acts = dataset.acts.take(own[max(len(own) - kept, 0) :])
    stranger = Person(user_id=f"newcomer {person}")
    return state_of(stranger, whole.traits, acts, dataset.item_ids, dataset.prints, whole.watermark)


def acts_until(dataset: Dataset, person: int, before: int) -> Rows:
    """The acts of a person's own id with index < `before`, oldest first."""
    own = dataset.acts_of(person)
    return own[: np.searchsorted(own, before)]


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
