"""Several sources' proposals become one list of candidates: whom each source is sure to bring, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from services.retrieval.ask import Found, nothing
from winnow.catalogue import Rows
from winnow.types import Bits, Floats


@dataclass(frozen=True, slots=True)
class Blend:
    """How one source enters. `share` is its part of the places beside the other sources' shares, `weight` what its
    score counts in the order. With a `floor` the score counts as log(1 + score / floor): shares and sums of counts,
    spread over magnitudes, then add up like logarithms of probabilities."""

    share: float
    weight: float
    floor: float = 0.0

    def worth(self, scores: Floats) -> Floats:
        return self.weight * (np.log1p(scores / self.floor) if self.floor else scores)


@dataclass(frozen=True, eq=False)
class Merged:
    """Distinct rows, best first; which sources proposed each (one bit per source); (n, sources) scores."""

    rows: Rows
    sources: Bits
    scores: Floats


def merge(found: Sequence[Found], blends: Sequence[Blend], n: int) -> Merged:
    """At most `n` rows from what the sources found (`found` and `blends` are per source).

    Sources take turns in proportion to their shares, each with its next best, until `n` distinct rows are in; one that
    runs out leaves its places to the others, and one without a share only fills up at the end. A source is named for
    the rows it brought this way. The order is by the sum of all sources' worths, whoever brought the row; equal ones
    by their turn.
    """
    shares = [max(blend.share, 1e-9) for blend in blends]
    latest = min((n / share for one, share in zip(found, shares, strict=True) if len(one.rows) >= n), default=np.inf)
    lists = [one.rows[: int(min(latest * share, n)) + 1] for one, share in zip(found, shares, strict=True)]
    turn = np.concatenate([ramp(len(rows)) / share for rows, share in zip(lists, shares, strict=True)])
    bit = np.repeat(BITS[: len(lists)], [len(rows) for rows in lists])
    every = np.concatenate(lists)
    order = every.argsort()
    every, turn, bit = every[order], turn[order], bit[order]
    starts = np.concatenate([[True], every[1:] != every[:-1]]).nonzero()[0] if len(every) else order
    rows = every[starts]
    earliest = np.minimum.reduceat(turn, starts) if len(rows) else turn
    if len(rows) > n:
        chosen = earliest.argpartition(n - 1)[:n]
        bit[turn > earliest[chosen].max()] = 0
    else:
        chosen = np.arange(len(rows))
    bits = np.bitwise_or.reduceat(bit, starts) if len(rows) else bit
    scores = columns(found, rows[chosen])
    order = best_first(worths(found, blends, scores), earliest, chosen)
    chosen = chosen[order]
    return Merged(rows[chosen], bits[chosen], scores[order])


BITS = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))


@lru_cache(maxsize=256)
def ramp(n: int) -> Rows:
    """1 … n, read-only."""
    places = np.arange(1, n + 1)
    places.flags.writeable = False
    return places


def worths(found: Sequence[Found], blends: Sequence[Blend], scores: Floats) -> Floats:
    """The sum over the sources of what their scores count; a source that says nothing adds 0 and is not asked."""
    total = np.zeros(len(scores), np.float32)
    for column, (one, blend) in enumerate(zip(found, blends, strict=True)):
        if blend.weight and one.score is not nothing:
            total += blend.worth(scores[:, column])
    return total


def best_first(worth: Floats, earliest: npt.NDArray[np.float64], chosen: Rows) -> Rows:
    """The order by falling worth, equal ones by turn, then by row. Worths are hardly ever equal: one look says so, and
    saves two of three sorts."""
    order = worth.argsort()[::-1]
    ranked = worth[order]
    return np.lexsort((chosen, earliest[chosen], -worth)) if (ranked[1:] == ranked[:-1]).any() else order


def columns(found: Sequence[Found], rows: Rows) -> Floats:
    """Every source's score for every candidate, whoever proposed it."""
    scores = np.zeros((len(rows), len(found)), np.float32)
    for column, one in enumerate(found):
        if one.score is not nothing:
            scores[:, column] = one.score(rows)
    return scores


def blends_of(
    names: Sequence[str], shares: Mapping[str, float], weights: Mapping[str, float], floors: Mapping[str, float]
) -> list[Blend]:
    """Per source by name; one that nobody mentions has no share and no say."""
    return [Blend(shares.get(name, 0.0), weights.get(name, 0.0), floors.get(name, 0.0)) for name in names]
