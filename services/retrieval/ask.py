"""One query made ready for the sources: what is allowed, as masks and rows of the catalogue.

Made on the event loop, where the catalogue is written, so that threads never see it half changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from winnow.catalogue import Mask, Rows
from winnow.types import Context, Floats, Person, UserState

NO_ROWS = np.empty(0, np.int64)
NOBODY = UserState(Person(session_id="nobody"))


@dataclass(frozen=True, eq=False)
class Ask:
    """Find `n` rows for one person. `mask` (over all known rows) may be shared between asks: open to everyone, or the
    filter's; `without` are this person's own exceptions, distinct rows below len(mask); `seen` are the rows that they
    acted on lately, where such may come back."""

    n: int
    mask: Mask
    without: Rows = field(default_factory=lambda: NO_ROWS)
    user: UserState = NOBODY
    history: Rows = field(default_factory=lambda: NO_ROWS)  # row per act of user.history, -1 where unknown
    seen: Rows = field(default_factory=lambda: NO_ROWS)
    context: Context = field(default_factory=Context)
    query: str = ""
    vectors: bool = False  # are wanted of what is found

    @cached_property
    def allowed(self) -> Mask:
        """The mask without this person's exceptions, and a last place that stands for every row that came later."""
        mask = np.empty(len(self.mask) + 1, np.bool_)
        mask[:-1], mask[-1] = self.mask, False
        mask[self.without] = False
        return mask

    def keep(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of `rows`, all of them rows, are allowed; those that came after the ask was made are not."""
        return self.allowed.take(rows, mode="clip")


Score = Callable[[Rows], Floats]
ZERO = np.float32(0)


def nothing(rows: Rows) -> Floats:
    """The score column of a source with nothing to say."""
    return np.zeros(len(rows), np.float32)


@dataclass(frozen=True, eq=False)
class Found:
    """What one source proposes for one ask: distinct allowed rows, best first; and its score for any rows at all,
    0 where it has nothing to say."""

    rows: Rows = field(default_factory=lambda: NO_ROWS)
    score: Score = nothing


def distinct(rows: Rows) -> Rows:
    """The distinct ones, rising: `np.unique`, which for few numbers is slower than sorting them."""
    rising = np.sort(rows)
    new = np.empty(len(rising), np.bool_)
    new[:1] = True
    np.not_equal(rising[1:], rising[:-1], out=new[1:])
    return rising[new]


def scored(ask: Ask, rows: Rows, scores: Floats) -> Found:
    """Of distinct rising rows with scores, the best allowed ones, in order of score."""

    if not len(rows):
        return Found()

    def score(wanted: Rows) -> Floats:
        place = rows.searchsorted(wanted)
        return np.where(rows.take(place, mode="clip") == wanted, scores.take(place, mode="clip"), ZERO)

    kept = ask.keep(rows).nonzero()[0]
    best = kept[(-scores[kept]).argsort(kind="stable")[: ask.n]]
    return Found(rows[best], score)


def first(ask: Ask, order: Rows, n: int) -> Rows:
    """The first `n` allowed rows of a long order; looks no further than it must."""
    found: list[Rows] = []
    start, size = 0, 4 * n + len(ask.without)
    while start < len(order) and n > 0:
        part = order[start : start + size]
        part = part[ask.keep(part)][:n]
        found.append(part)
        n -= len(part)
        start, size = start + size, 4 * size
    return np.concatenate(found) if found else NO_ROWS
