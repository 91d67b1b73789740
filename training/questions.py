"""What an evaluation asks: at this moment, what does this person act on next?

Leave-one-out: the one act of each person in the part `test`. By time: all items of each person's first basket in the
part `test`, with what they paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from training.dataset import Dataset, Rows
from training.split import Split
from winnow.features import Ints
from winnow.types import Context, Floats, UserState


@dataclass(frozen=True, eq=False)
class Question:
    """`relevant` item rows, distinct, and what was paid for each (1 where nothing was); `before`: acts known."""

    dataset: Dataset
    person: int
    before: int
    relevant: Ints
    paid: Floats

    @cached_property
    def history(self) -> Rows:
        """Item rows of everything the person did before, oldest first."""
        own = self.dataset.acts_of(self.person)
        return self.dataset.acts.item[own[: np.searchsorted(own, self.before)]]

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
        return Question(self.dataset, self.person, self.before, self.relevant[mask], self.paid[mask])


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
    return Question(dataset, person, first, items, np.where(paid > 0, paid, 1.0).astype(np.float32))
