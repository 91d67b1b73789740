"""What evaluations found, and what they say together: means over people and seeds, each with its 95 % interval.

One `Found` a seed, kept as a file, so that figures can be compared in pairs afterwards. Who was asked, and what, is not
known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from training.intervals import Columns, Estimate, of_mean, of_seeds, together

Figures = dict[str, dict[str, dict[str, Any]]]
"""By model and metric: mean, low, high, error, and where there are several seeds the mean of each and their spread."""


@dataclass
class Found:
    """Of `asked` questions, by model: a column per metric, and estimates of what is no mean of a column."""

    asked: int
    columns: dict[str, Columns] = field(default_factory=dict)
    whole: dict[str, dict[str, Estimate]] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        return [*self.columns]

    def save(self, file: Path) -> None:
        """Write an archive of numpy columns, all or nothing."""
        named = {f"{m}/{name}": own for m, columns in self.columns.items() for name, own in columns.items()}
        whole = {m: {name: asdict(one) for name, one in own.items()} for m, own in self.whole.items()}
        about = np.frombuffer(json.dumps({"asked": self.asked, "whole": whole}).encode(), np.uint8)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".part")
        with beside.open("wb") as stream:
            np.savez_compressed(stream, about=about, **named)  # type: ignore[arg-type]
        beside.replace(file)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as kept:
            about = json.loads(kept["about"].tobytes())
            found = cls(int(about["asked"]))
            for name in kept.files:
                if name != "about":
                    model, metric = name.split("/", 1)
                    found.columns.setdefault(model, {})[metric] = kept[name]
        found.whole = {m: {name: Estimate(**one) for name, one in own.items()} for m, own in about["whole"].items()}
        return found


def figures(runs: Sequence[Found]) -> Figures:
    """Everything that the seeds found, by model and metric."""
    first = runs[0]
    found: Figures = {model: {} for model in (*first.columns, *first.whole)}
    for model, columns in first.columns.items():
        for name in columns:
            own = [run.columns[model][name] for run in runs]
            found[model][name] = described(of_seeds(own), [of_mean(one).value for one in own])
    for model, estimates in first.whole.items():
        for name in estimates:
            each = [run.whole[model][name] for run in runs]
            found[model][name] = described(together(each), [one.value for one in each])
    return found


def described(estimate: Estimate, by_seed: Sequence[float]) -> dict[str, Any]:
    """An estimate as JSON; `spread` is the standard deviation of the seeds' means."""
    document: dict[str, Any] = estimate.to_json()
    if len(by_seed) > 1:
        document |= {"seeds": [*map(rounded, by_seed)], "spread": rounded(np.std(by_seed, ddof=1))}
    return document


def rounded(value: Any) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def best_of(found: Mapping[str, Mapping[str, Mapping[str, Any]]], models: Sequence[str], metric: str) -> str:
    """The model with the highest mean."""

    def mean(model: str) -> float:
        value = found[model][metric]["mean"]
        return -np.inf if value is None else float(value)

    return max(models, key=mean)


def gains(runs: Sequence[Found], model: str, baselines: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """By metric: the best of the baselines, and how much better the model is, in pairs, with its interval."""
    named = figures(runs)
    found: dict[str, Any] = {}
    for metric in metrics:
        other = best_of(named, baselines, metric)
        differences = [run.columns[model][metric] - run.columns[other][metric] for run in runs]
        found[metric] = {"baseline": other, **described(of_seeds(differences), [of_mean(d).value for d in differences])}
    return found
