"""How far what serving sees has moved from what training saw: PSI and KS between two histograms over the same bins.

Bins are the deciles of the reference, so each holds a tenth of it. A bundle brings its reference (`facts.reference`,
docs/bundles.md). Knows neither models nor requests: a signal is a name and a column of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

BINS = 10
FLOOR = 1e-4  # least share that PSI counts with: an empty bin would be infinitely far

Numbers = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reference:
    """Of each signal its bounds (s, BINS - 1), ascending and inf where there are fewer, and shares (s, BINS) that add up
    to 1. A value belongs to the bin whose number is how many bounds it exceeds; NaN exceeds none."""

    names: tuple[str, ...]
    edges: npt.NDArray[np.float32]
    shares: Shares

    @classmethod
    def of(cls, names: Sequence[str], columns: Sequence[Numbers]) -> Self:
        """From the values of each signal, one at least."""
        edges = np.stack([deciles(column) for column in columns]) if len(columns) else np.empty((0, BINS - 1), "f4")
        counts = [np.bincount(places(row, column), minlength=BINS) for row, column in zip(edges, columns, strict=True)]
        return cls(tuple(names), edges, shares_of(np.asarray(counts, np.int64).reshape(-1, BINS)))

    @classmethod
    def from_json(cls, document: Mapping[str, Mapping[str, Sequence[float]]]) -> Self:
        """ValueError where it is none."""
        edges = np.full((len(document), BINS - 1), np.inf, np.float32)
        for row, entry in enumerate(document.values()):
            edges[row, : len(entry["edges"])] = entry["edges"]
        shares = np.asarray([entry["shares"] for entry in document.values()], np.float64).reshape(-1, BINS)
        if not (np.isfinite(shares).all() and (np.abs(shares.sum(axis=1) - 1) < 1e-3).all() and rising(edges)):
            raise ValueError("a reference needs rising edges, and shares that add up to 1")
        return cls(tuple(document), edges, shares)

    def to_json(self) -> dict[str, dict[str, list[float]]]:
        return {
            name: {
                "edges": [float(edge) for edge in edges if np.isfinite(edge)],
                "shares": [round(float(share), 6) for share in shares],
            }
            for name, edges, shares in zip(self.names, self.edges, self.shares, strict=True)
        }

    def count(self, values: Numbers) -> Counts:
        """Values (n, s), a column a signal → (s, BINS)."""
        places = (values[:, :, None] > self.edges[None]).sum(axis=2)
        flat = places + BINS * np.arange(len(self.names))
        return np.bincount(flat.ravel(), minlength=BINS * len(self.names)).reshape(-1, BINS)

    def count_one(self, signal: int, values: Numbers) -> Counts:
        """Values (n,) of one signal → (BINS,)."""
        return np.bincount(places(self.edges[signal], values), minlength=BINS)


def rising(edges: npt.NDArray[np.float32]) -> bool:
    return bool((edges[:, 1:] >= edges[:, :-1]).all())


def deciles(values: Numbers) -> npt.NDArray[np.float32]:
    """(BINS - 1,) bounds that part the values into tenths; equal ones once, then inf."""
    known = values[np.isfinite(values)]
    found = np.unique(np.quantile(known, np.arange(1, BINS) / BINS).astype(np.float32)) if len(known) else known
    edges = np.full(BINS - 1, np.inf, np.float32)
    edges[: len(found)] = found
    return edges


def places(edges: npt.NDArray[np.float32], values: Numbers) -> Counts:
    """The bin of each value."""
    return np.where(np.isnan(values), 0, np.searchsorted(edges, values, side="left"))


def shares_of(counts: Counts) -> Shares:
    """(s, BINS) counts → shares; a signal without a value has none."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), np.float64)


def psi(expected: Shares, seen: Shares) -> Shares:
    """Population stability index per signal (s,): below 0.1 nothing moved, above 0.25 much did (Siddiqi, 2006)."""
    p, q = np.maximum(expected, FLOOR), np.maximum(seen, FLOOR)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=1), np.float64)


def ks(expected: Shares, seen: Shares) -> Shares:
    """Kolmogorov and Smirnov's distance per signal (s,), at the bounds of the bins: between 0 and 1."""
    return np.asarray(np.abs(np.cumsum(expected - seen, axis=1)).max(axis=1), np.float64)
