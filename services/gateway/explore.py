"""Exploration: now and then a place goes to a worse candidate, so that what was never shown can be learnt about, and every
decision says how likely each item was to stand where it stood (for inverse propensity scores, Horvitz and Thompson 1952).

Place by place, epsilon-greedy: with the probability `share` a place is drawn evenly from the next `pool` candidates of the
same kind, else it keeps the best of them. Candidates are of one kind where every promise about a page (rules, floors, caps)
says the same of both, so no promise suffers. Given the places before it, an item's propensity is exact:
1 - share + share / m for the best one and share / m for another of the m.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from services.gateway.slate import PLACES
from winnow.catalogue import Rows
from winnow.types import Floats, Person


@dataclass(frozen=True, slots=True)
class Explore:
    """`share` of the first `PLACES` places are drawn from `pool` candidates each. Whoever asks again within `seconds` is
    drawn the same, so that the pages of one list fit together."""

    share: float
    pool: int
    seconds: float

    @property
    def strengths(self) -> dict[str, float]:
        """What a decision says of it; nothing where it is off."""
        return {"explore": self.share, "explore_pool": float(self.pool)} if self.share else {}

    def seed(self, person: Person, surface: str, at: float) -> int:
        words = f"{person.user_id}\0{person.session_id}\0{surface}\0{int(at // self.seconds)}"
        return xxhash.xxh3_64_intdigest(words.encode())

    def draw(
        self, order: Rows, alike: npt.NDArray[np.generic], fixed: Collection[int], seed: int
    ) -> tuple[Rows, Floats]:
        """The order (rows of n candidates) with some places drawn, and the propensity of each place (1 where nothing was
        left to chance). `alike` (k, n): columns that are equal are of one kind; the candidates `fixed` stay."""
        chance = np.random.default_rng(seed)
        drawn, which = chance.random(PLACES) < self.share, chance.random(PLACES)
        made, propensities = order.copy(), np.ones(len(order), np.float32)
        kind = kinds_of(alike[:, order])
        kind[np.isin(order, list(fixed))] = -1
        for one in np.unique(kind[:PLACES]):
            if one < 0:
                continue
            places = np.flatnonzero(kind == one)
            waiting = order[places].tolist()
            for turn, place in enumerate(places[places < PLACES].tolist()):
                m = min(self.pool, len(waiting) - turn)
                other = int(which[place] * m) if drawn[place] else 0
                waiting.insert(turn, waiting.pop(turn + other))
                propensities[place] = self.share / m + (0.0 if other else 1.0 - self.share)
            made[places] = waiting
        return made, propensities


def kinds_of(columns: npt.NDArray[np.generic]) -> Rows:
    """(n,) a number from 0 for each column of (k, n), equal for equal columns."""
    number: dict[bytes, int] = {}
    wide = columns.shape[0] * columns.itemsize
    packed = np.ascontiguousarray(columns.T).tobytes()
    found = (packed[n * wide : (n + 1) * wide] for n in range(columns.shape[1]))
    return np.fromiter((number.setdefault(one, len(number)) for one in found), np.int64, count=columns.shape[1])
