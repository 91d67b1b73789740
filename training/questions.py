"""What an evaluation asks: at this moment, what does this person act on next?

Leave-one-out: the one act of each person in the part `test`. By time: all items of each person's first basket in the
part `test`, with what they paid. A newcomer's question is the same one, asked by somebody of whom only the newest acts
are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from training.dataset import Dataset, Rows
from training.moments import Outcome, acts_until, imagined, newcomer_state
from training.split import Split
from winnow.features import Ints
from winnow.types import Context, Floats, UserState

NO_ACTS = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Question:
    """`relevant` item rows, distinct, and what was paid for each (1 where nothing was); `before`: acts known; `acts`:
    those that are the answer."""

    dataset: Dataset
    person: int
    before: int
    relevant: Ints
    paid: Floats
    acts: Rows = field(default_factory=lambda: NO_ACTS)

    @cached_property
    def history(self) -> Rows:
        """Item rows of everything the person did before, oldest first."""
        return self.dataset.acts.item[acts_until(self.dataset, self.person, self.before)]

    @property
    def state(self) -> UserState:
        return self.dataset.state(self.person, self.before)

    @property
    def context(self) -> Context:
        """The moment of the act, where the data set knows moments."""
        at = datetime.fromtimestamp(float(self.dataset.acts.at[self.before]), UTC)
        return Context(at=at)

    def only(self, seen: bool) -> Question:
        """The part of the answer that the person had acted on before, or had not."""
        mask = np.isin(self.relevant, self.history) == seen
        return replace(self, relevant=self.relevant[mask], paid=self.paid[mask])

    @property
    def outcomes(self) -> Mapping[int, Outcome]:
        """What happened, by item row: a purchase or a good rating, and what it was worth."""
        return imagined(self.dataset, self.acts).outcomes if len(self.acts) else {}

    @property
    def left_out(self) -> Rows:
        """Item rows that must not be answered though the person's state does not tell."""
        return NO_ACTS


@dataclass(frozen=True, eq=False)
class Newcomer(Question):
    """The question of somebody whom no model has met and who did only the newest `kept` of the person's acts.

    Where people do not act on a thing again, what the person really had acted on is left out of the answers, however
    little of it is known: between lengths of history only what is known differs.
    """

    kept: int = 0

    @cached_property
    def history(self) -> Rows:
        return self.dataset.acts.item[self._known]

    @property
    def state(self) -> UserState:
        return newcomer_state(self.dataset, self.person, self.before, self.kept)

    @property
    def left_out(self) -> Rows:
        return NO_ACTS if self.dataset.repeats else np.unique(self.dataset.acts.item[self._own])

    @property
    def _own(self) -> Rows:
        return acts_until(self.dataset, self.person, self.before)

    @property
    def _known(self) -> Rows:
        return self._own[max(len(self._own) - self.kept, 0) :]


def newcomer(question: Question, kept: int) -> Newcomer:
    """The same question of somebody whose history is cut to its newest `kept` acts."""
    one = question
    return Newcomer(one.dataset, one.person, one.before, one.relevant, one.paid, one.acts, kept)


def questions(dataset: Dataset, parts: Split, most: int = 0) -> list[Question]:
    """One per person with an act to test on; at most `most` (0: all), spread evenly."""
    found = [question(dataset, parts, person) for person in range(len(dataset.people))]
    asked = [one for one in found if one is not None]
    if most and len(asked) > most:
        asked = [asked[n] for n in np.linspace(0, len(asked) - 1, most).astype(np.int64)]
    return asked


def question(dataset: Dataset, parts: Split, person: int) -> Question | None:
    own = dataset.acts_of(person)
    tested = own[parts.test[own]]
    if not len(tested):
        return None
    first = int(tested[0])
    basket = tested[dataset.acts.at[tested] == dataset.acts.at[first]] if dataset.repeats else tested[:1]
    items, which = np.unique(dataset.acts.item[basket], return_inverse=True)
    worth = np.nan_to_num(dataset.acts.value[basket].astype(np.float64), nan=0.0) * dataset.acts.quantity[basket]
    paid = np.bincount(which, weights=worth, minlength=len(items))
    return Question(dataset, person, first, items, np.where(paid > 0, paid, 1.0).astype(np.float32), basket)
