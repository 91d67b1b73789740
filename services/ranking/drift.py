"""Watches how the scores that a bundle gives, and the features it is given, move away from what its training saw.

Of the last half hour to hour; the histograms cost some microseconds a request. A bundle that brings no reference is
compared with the first requests that it served, and the metric's label says so. Watches people's numbers and the click
score, not categories.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from winnow.drift import BINS, Reference, ks, psi, shares_of
from winnow.types import Floats

SCORE = "score"
HALF_S = 1_800.0  # of the window: it holds one whole half and the part of the next that has passed
LEAST = 200  # requests in the window before anything is said: fewer differ by chance alone
TOGETHER = 32  # requests that are counted in one pass
FIRST = 500  # requests that stand in for a reference

Said = tuple[str, float, float]
"""A signal, its PSI, its KS."""


class Drift:
    """Of one bundle: signals are the click score of each candidate, and the numbers (names) of each person, in the order
    of the reference. Thread-safe."""

    def __init__(
        self,
        bundle: str,
        names: Sequence[str],
        reference: Reference | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bundle = bundle
        self.origin = "training" if reference is not None else "first_served"
        self._names = (SCORE, *names)
        self._reference = reference
        self._clock = clock
        self._lock = threading.Lock()
        self._first: list[tuple[Floats, Floats]] = []
        self._waiting: list[tuple[Floats, Floats]] = []  # requests that are not counted yet, TOGETHER - 1 at most
        self._counts = np.zeros((2, len(self._names), BINS), np.int64)  # of this half, and of the one before
        self._requests = [0, 0]
        self._since = clock()

    def observe(self, scores: Floats, numbers: Floats) -> None:
        """One request: scores (n,) of its candidates, numbers (s,) of its person as the model reads them. Both are kept
        for a while, and not to be written to."""
        with self._lock:
            if self._reference is None:
                self._learn(scores, numbers)
                return
            self._turn()
            self._waiting.append((scores, numbers))
            if len(self._waiting) >= TOGETHER:
                self._count(self._reference)

    def said(self) -> list[Said]:
        """Of every signal, once enough was seen."""
        with self._lock:
            if self._reference is None:
                return []
            self._turn()
            self._count(self._reference)
            if sum(self._requests) < LEAST:
                return []
            expected, seen = self._reference.shares, shares_of(self._counts.sum(axis=0))
            return list(zip(self._names, psi(expected, seen).tolist(), ks(expected, seen).tolist(), strict=True))

    def _learn(self, scores: Floats, numbers: Floats) -> None:
        self._first.append((scores.copy(), numbers.copy()))
        if len(self._first) == FIRST:
            people = np.stack([own for _, own in self._first])
            columns = [np.concatenate([given for given, _ in self._first]), *people.T]
            self._reference = Reference.of(self._names, columns)
            self._first.clear()

    def _count(self, reference: Reference) -> None:
        """What waits into the histograms of this half, in one pass: most of a pass is not the counting."""
        if not self._waiting:
            return
        scores, numbers = zip(*self._waiting, strict=True)
        self._waiting.clear()
        people = np.stack(numbers)
        self._counts[0, 0] += reference.count_one(0, np.concatenate(scores))
        self._counts[0, 1:] += reference.count(np.column_stack([np.zeros(len(people)), people]))[1:]
        self._requests[0] += len(people)

    def _turn(self) -> None:
        """The half that is over becomes the one before, and two that are over are forgotten."""
        halves = int((self._clock() - self._since) / HALF_S)
        if halves and self._reference is not None:
            self._count(self._reference)
        for _ in range(min(halves, 2)):
            self._counts[1], self._counts[0] = self._counts[0], 0
            self._requests = [0, self._requests[0]]
        self._since += halves * HALF_S


def arranged(reference: Reference, names: Sequence[str]) -> Reference:
    """The same for these signals in this order. ValueError where one is missing."""
    rows = [reference.names.index(name) for name in names]
    return Reference(tuple(names), reference.edges[rows], reference.shares[rows])


class Shown(Collector):
    """What Prometheus sees: of the bundle that serves, and of no other."""

    def __init__(self) -> None:
        self.drift: Drift | None = None

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ["bundle", "signal", "reference"]
        stability = GaugeMetricFamily(
            "winnow_drift_psi", "Population stability index of a signal against its reference", labels=labels
        )
        distance = GaugeMetricFamily(
            "winnow_drift_ks", "Largest difference of the distributions of a signal and its reference", labels=labels
        )
        if (drift := self.drift) is not None:
            for signal, moved, apart in drift.said():
                stability.add_metric([drift.bundle, signal, drift.origin], moved)
                distance.add_metric([drift.bundle, signal, drift.origin], apart)
        return [stability, distance]


SHOWN = Shown()
REGISTRY.register(SHOWN)
