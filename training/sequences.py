"""Acts as sequences: what the two-tower model reads, padded without a loop over acts.

Knows the data set and the conventions of docs/bundles.md (newest act at the last place, type codes from 1, values
standardised), neither the network nor torch: a refresh reads the same sequences without training anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from training.dataset import Dataset
from winnow.acts import CODES, Acts, grouped
from winnow.encoding import Schema
from winnow.features import CLOCK, DAY_S, Ints, UserView
from winnow.types import HISTORY, Context, EventType, Floats, UserState

Mask = npt.NDArray[np.bool_]
HOUR_S = 3600.0
DISMISS = CODES[EventType.DISMISS]


@dataclass(frozen=True, slots=True)
class Values:
    """How a history value enters: (v - mean) / std, 0 when the act has none."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fit(cls, values: Floats) -> Values:
        known = values[~np.isnan(values)].astype(np.float64)
        std = float(known.std()) if len(known) else 1.0
        return cls(float(known.mean()) if len(known) else 0.0, std if std > 1e-6 else 1.0)

    def scaled(self, values: Floats) -> Floats:
        scaled: Floats = (values - np.float32(self.mean)) / np.float32(self.std)
        return np.where(np.isnan(scaled), np.float32(0.0), scaled)


@dataclass(frozen=True, eq=False)
class Sequences:
    """The acts of everyone, one person's after another's, oldest first (s acts of p people).

    `log` has the columns, in log order; `act_rows` says where in it each act of the sequences is, so that no column is held
    twice. `facts` (p, W) are the rows of the user tower's features for each person; `clock` maps the columns that depend
    on the moment to the row of each hour or weekday.
    """

    log: Acts
    starts: Ints  # (p + 1,)
    facts: Ints
    clock: Mapping[int, tuple[str, Ints]]
    values: Values
    act_rows: Ints  # (s,)

    @classmethod
    def of(cls, dataset: Dataset, schema: Schema, facts: Ints, values: Values) -> Sequences:
        """All acts; a session's acts belong to its user where the log names one."""
        starts, order = dataset.log.offsets, dataset.log.order
        if dataset.log.links:
            owner = np.arange(len(dataset.people))
            for session, link in dataset.log.links.items():
                owner[session] = link.user
            order, starts = grouped(owner[dataset.acts.user], len(owner))
        return cls(dataset.acts, starts, facts, clock_rows(schema), values, order)

    def __len__(self) -> int:
        return len(self.act_rows)

    def restricted(self, mask: Mask) -> Sequences:
        """Only the acts that `mask` (over the data set's acts) holds."""
        keep = mask[self.act_rows]
        before = np.zeros(len(keep) + 1, np.int64)
        np.cumsum(keep, out=before[1:])
        return replace(self, starts=before[self.starts], act_rows=self.act_rows[keep])

    def items(self, positions: slice | Ints = slice(None)) -> Ints:
        """The items' rows of these acts, by position in the sequences; of all."""
        return self.log.item[self.act_rows[positions]]

    @cached_property
    def wanted(self) -> Mask:
        """(s,) acts worth predicting: all but dismissals."""
        return np.asarray(self.log.type != DISMISS)[self.act_rows]

    def person_of(self, positions: Ints) -> Ints:
        """The person of acts by position in the sequences."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def windows(self, first: Ints, last: Ints) -> dict[str, npt.NDArray[np.generic]]:
        """Sequences of HISTORY places whose targets are the acts [first, last) (positions; one person each).

        Place 49 reads the act before target last - 1. `inputs`, `targets` (b, L) item rows, -1 where there is none or
        nothing worth predicting; `types`, `values` (b, L) of the inputs; `ids` (b, L, W).
        """
        start = self.starts[self.person_of(first)][:, None]
        target = last[:, None] - HISTORY + np.arange(HISTORY)
        known = target - 1 >= start
        t, i = self.act_rows[np.maximum(target, 0)], self.act_rows[np.maximum(target - 1, 0)]
        wanted = (target >= first[:, None]) & (self.log.type[t] != DISMISS)
        return {
            "inputs": np.where(known, self.log.item[i], -1),
            "targets": np.where(wanted, self.log.item[t], -1),
            "types": np.where(known, self.log.type[i].astype(np.int64) + 1, 0),
            "values": np.where(known, self.values.scaled(self.log.value[i]), np.float32(0.0)),
            "ids": self.ids(self.person_of(first), self.log.at[t]),
        }

    def ids(self, person: Ints, at: npt.NDArray[np.float64]) -> Ints:
        """(b, L, W) facts of people (b,) at moments (b, L), UTC."""
        rows = np.repeat(self.facts[person][:, None, :], at.shape[1], axis=1)
        for column, (name, row_of) in self.clock.items():
            if name == "context_hour":
                rows[:, :, column] = row_of[(at // HOUR_S).astype(np.int64) % 24]
            else:  # 1970-01-01 was a Thursday
                rows[:, :, column] = row_of[((at // DAY_S).astype(np.int64) + 3) % 7]
        return rows

    def before(self, positions: Ints) -> dict[str, npt.NDArray[np.generic]]:
        """The histories before these acts, one window each with one target; `ids` (b, 1, W) at its moment."""
        batch = self.windows(positions, positions + 1)
        return batch | {"ids": batch["ids"][:, -1:]}


def clock_rows(schema: Schema) -> dict[int, tuple[str, Ints]]:
    """Column of each feature of the moment, and the vocabulary row of every hour or weekday."""
    found = {}
    for column, feature in enumerate(schema.categorical):
        if feature.name in CLOCK:
            count = 24 if feature.name == "context_hour" else 7
            vocabulary = schema.vocabularies[feature.vocabulary]
            found[column] = (feature.name, np.asarray([vocabulary.row(str(n)) for n in range(count)], np.int64))
    return found


def person_view(dataset: Dataset, row: int) -> UserView:
    """A person as such, without a moment: id and traits."""
    return UserView(UserState(dataset.people[row], traits=dataset.traits[row]), Context(), lambda _: None)


def person_facts(dataset: Dataset, schema: Schema, people: Ints | None = None) -> Ints:
    """(people, W) rows of each person's features; those of the moment are missing. With `people` only theirs are
    encoded, and the others' stay missing."""
    wanted = np.arange(len(dataset.people)) if people is None else people
    facts = np.zeros((len(dataset.people), schema.width), np.int64)
    facts[wanted], _ = schema.encode([person_view(dataset, row) for row in wanted.tolist()])
    return facts
