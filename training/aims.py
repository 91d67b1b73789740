"""What the rankings are meant to reach, by data set, held against what was measured.

Figures by model and metric are those of `training.found.figures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from training.baselines import PUBLISHED
from training.found import Figures

TOLERANCE = 0.0005  # of a published value: how ties fall
ABOVE = ("ease", "markov1")  # what the funnel is to beat


@dataclass(frozen=True, slots=True)
class Verdict:
    """One aim beside its figure."""

    aim: str
    measured: str
    met: bool

    def to_json(self) -> dict[str, Any]:
        return {"aim": self.aim, "measured": self.measured, "met": self.met}


class Aim(Protocol):
    def held(self, found: Figures) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Least:
    """A metric's mean is at least `value` (`stretch`: as good as the best published, a wish)."""

    model: str
    metric: str
    value: float
    stretch: bool = False

    def held(self, found: Figures) -> Verdict:
        own = found[self.model][self.metric]
        words = f"{self.model} {self.metric} >= {self.value:.3f}{' (stretch)' if self.stretch else ''}"
        return Verdict(words, interval(own), own["mean"] >= self.value)


@dataclass(frozen=True, slots=True)
class Apart:
    """A model is better than another by a metric, and their intervals do not touch."""

    model: str
    metric: str
    other: str

    def held(self, found: Figures) -> Verdict:
        own, other = found[self.model][self.metric], found[self.other][self.metric]
        words = f"{self.model} above {self.other} by {self.metric}, intervals apart"
        return Verdict(words, f"{interval(own)} against {interval(other)}", own["low"] > other["high"])


@dataclass(frozen=True, slots=True)
class Published:
    """A baseline's NDCG@10 is the one that was published for this protocol: what is compared here is comparable."""

    model: str

    def held(self, found: Figures) -> Verdict:
        own, value = found[self.model]["ndcg@10"], PUBLISHED[self.model]
        words = f"{self.model} ndcg@10 as published, {value:.4f}"
        return Verdict(words, interval(own), abs(own["mean"] - value) <= TOLERANCE)


AIMS: Mapping[str, tuple[Aim, ...]] = {
    "ml-1m": (
        *map(Published, ("popularity", "markov1", "ease")),
        Least("retrieval", "ndcg@10", 0.182),
        Least("funnel", "ndcg@10", 0.190),
        Least("funnel", "ndcg@10", 0.216, stretch=True),
    ),
    "online-retail": tuple(Apart("funnel", f"{track}_ndcg@10", other) for track in ("new", "rebuy") for other in ABOVE),
}


def verdicts(name: str, found: Figures) -> list[Verdict]:
    """The aims of a data set; none for one that has no aims."""
    return [aim.held(found) for aim in AIMS.get(name, ())]


def interval(figure: Mapping[str, Any]) -> str:
    """A mean with its interval, as people read it."""
    if figure["mean"] is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['mean']:.4f}"
    return f"{figure['mean']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]"
