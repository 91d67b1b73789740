"""Several sources' proposals become one list of candidates: whom each source is sure to bring, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.retrieval.ask import Found
from winnow.catalogue import Rows
from winnow.types import Bits, Floats

RANK_OFFSET = 60.0  # of reciprocal-rank fusion (Cormack, Clarke and Büttcher 2009)


@dataclass(frozen=True, slots=True)
class Blend:
    """How one source enters: `share` is its part of the places beside the other sources' shares, `weight` its say in
    the order."""

    share: float
    weight: float


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
    the rows it brought this way. The order is weighted reciprocal-rank fusion: the sum over a row's sources of
    weight / (60 + place).
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
        which, source, place = which[came], source[came], place[came]
    say = np.asarray([blend.weight for blend in blends])[source] / (RANK_OFFSET + place)
    fused = np.bincount(which, weights=say, minlength=len(rows))
    bits = np.bincount(which, weights=np.exp2(source), minlength=len(rows))
    chosen = chosen[np.lexsort((chosen, -fused[chosen]))]
    return Merged(rows[chosen], bits[chosen].astype(np.uint32), columns(found, rows[chosen]))


def columns(found: Sequence[Found], rows: Rows) -> Floats:
    """Every source's score for every candidate, whoever proposed it."""
    scores = np.empty((len(rows), len(found)), np.float32)
    for column, one in enumerate(found):
        scores[:, column] = one.score(rows)
    return scores


def blends_of(names: Sequence[str], shares: Mapping[str, float], weights: Mapping[str, float]) -> list[Blend]:
    """Per source by name; one that nobody mentions has no share and no say."""
    return [Blend(shares.get(name, 0.0), weights.get(name, 0.0)) for name in names]
