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

    @cached_property
    def allowed(self) -> Mask:
        """The mask without this person's exceptions."""
        if not len(self.without):
            return self.mask
        mask = self.mask.copy()
        mask[self.without] = False
        return mask

    def keep(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Which of `rows` are allowed; rows that came after the ask was made, and -1, are not."""
        inside = (rows >= 0) & (rows < len(self.mask))
        return inside & self.allowed[np.where(inside, rows, 0)] if len(self.mask) else inside


Score = Callable[[Rows], Floats]


def nothing(rows: Rows) -> Floats:
    """The score column of a source with nothing to say."""
    return np.zeros(len(rows), np.float32)


@dataclass(frozen=True, eq=False)
class Found:
    """What one source proposes for one ask: distinct allowed rows, best first; and its score for any rows at all,
    0 where it has nothing to say."""

    rows: Rows = field(default_factory=lambda: NO_ROWS)
    score: Score = nothing


def scored(ask: Ask, rows: Rows, scores: Floats) -> Found:
    """Of distinct rising rows with scores, the best allowed ones, in order of score."""

    def score(wanted: Rows) -> Floats:
        if not len(rows):
            return nothing(wanted)
        place = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
        return np.where(rows[place] == wanted, scores[place], np.float32(0))

    kept = np.flatnonzero(ask.keep(rows))
    best = kept[np.argsort(-scores[kept], kind="stable")[: ask.n]]
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
