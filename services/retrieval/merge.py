"""Several sources' proposals become one list of candidates: whom each source is sure to bring, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.retrieval.ask import Found
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
    source = np.repeat(np.arange(len(found)), [len(rows) for rows in lists])
    place = np.concatenate([np.arange(len(rows)) for rows in lists])
    rows, which = np.unique(np.concatenate(lists), return_inverse=True)
    turn = (place + 1) / np.asarray(shares)[source]
    earliest = np.full(len(rows), np.inf)
    np.minimum.at(earliest, which, turn)
    chosen = np.arange(len(rows))
    if len(rows) > n:
        chosen = np.argpartition(earliest, n - 1)[:n]
        came = turn <= earliest[chosen].max()
        which, source = which[came], source[came]
    bits = np.bincount(which, weights=np.exp2(source), minlength=len(rows))
    scores = columns(found, rows[chosen])
    worth = sum((blend.worth(scores[:, n]) for n, blend in enumerate(blends)), np.zeros(len(chosen), np.float32))
    order = np.lexsort((chosen, earliest[chosen], -worth))
    chosen = chosen[order]
    return Merged(rows[chosen], bits[chosen].astype(np.uint32), scores[order])


def columns(found: Sequence[Found], rows: Rows) -> Floats:
    """Every source's score for every candidate, whoever proposed it."""
    scores = np.empty((len(rows), len(found)), np.float32)
    for column, one in enumerate(found):
        scores[:, column] = one.score(rows)
    return scores


def blends_of(
    names: Sequence[str], shares: Mapping[str, float], weights: Mapping[str, float], floors: Mapping[str, float]
) -> list[Blend]:
    """Per source by name; one that nobody mentions has no share and no say."""
    return [Blend(shares.get(name, 0.0), weights.get(name, 0.0), floors.get(name, 0.0)) for name in names]
