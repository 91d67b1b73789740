"""What a search of settings can be for: a model that keeps the contract, or the two towers.

Validation and held-out questions are those of the data set's own protocol (`training.split`): by time, or each person's
second-last and last act. A contract model is fitted on everything before the part that asks. The towers take long, so they
are fitted once, on the part `train`, and answer both parts from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from rich.progress import Progress

from training.dataset import Dataset
from training.intervals import Columns
from training.measures import rates
from training.models.catalogue import kind_of, make
from training.questions import questions
from training.rankings import EvaluationSettings, places_by
from training.search import METRICS, Params, Part
from training.split import Mask, Split
from training.train_model import fitted
from training.train_retrieval import Probe, RetrievalSettings, fit_towers
from winnow.errors import InvalidArgument
from winnow.features import Ints


@dataclass(frozen=True)
class ContractModel:
    """One of `training.models.catalogue`."""

    name: str
    dataset: Dataset
    parts: Split
    seed: int = 0
    people: int = 0  # asked at most; 0: all
    progress: Progress | None = None

    @property
    def key(self) -> str:
        return f"{self.dataset.snapshot} {self.seed} {self.people} {sorted(self.space)} {sorted(self.defaults.items())}"

    @property
    def space(self) -> Mapping[str, BaseDistribution]:
        return kind_of(self.name).space

    @property
    def defaults(self) -> Params:
        model = make(self.name, seed=self.seed)
        return {name: getattr(model.settings, name) for name in self.space}

    @property
    def refits(self) -> int:
        return 2  # the best and the default, on all that lies before the held-out part

    def columns(self, params: Params, part: Part) -> Columns:
        asked_part = self.parts.calibrate if part == "validation" else self.parts.test
        asked = questions(self.dataset, replace(self.parts, test=asked_part), self.people)
        model = fitted(self.dataset, self.before(part), self.name, params, self.seed, self.progress)
        settings = EvaluationSettings(seed=self.seed)
        found = rates(asked, places_by(model, self.dataset, asked, settings, self.dataset.repeats))
        return {name: found[name] for name in METRICS}

    def before(self, part: Part) -> Mask:
        """The acts that may be learnt from."""
        return self.parts.train | self.parts.rank if part == "validation" else ~self.parts.test


TOWER_SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(5e-4, 5e-3, log=True),
    "windows": CategoricalDistribution([16, 32, 64]),
    "dropout": FloatDistribution(0.0, 0.4, step=0.05),
    "temperature": FloatDistribution(0.03, 0.15, log=True),
    "cold_items": FloatDistribution(0.0, 0.3, step=0.05),
    "layers": CategoricalDistribution([1, 2]),
}


@dataclass(frozen=True)
class TwoTowers:
    """The two-tower model alone: the nearest items of the whole catalogue, for each person's next new item."""

    dataset: Dataset
    parts: Split
    settings: RetrievalSettings
    progress: Progress | None = None
    name: str = "retrieval"
    space: Mapping[str, BaseDistribution] = field(default_factory=lambda: TOWER_SPACE)
    _found: dict[str, dict[Part, Columns]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        epochs, seed = self.settings.loop.epochs, self.settings.loop.seed
        return f"{self.dataset.snapshot} {seed} {epochs} {sorted(self.space)} {sorted(self.defaults.items())}"

    @property
    def defaults(self) -> Params:
        known = asdict(self.settings.sizes) | {"lr": self.settings.loop.lr, "windows": self.settings.windows}
        return {name: known[name] for name in self.space}

    @property
    def refits(self) -> int:
        return 0  # one fit answers both parts

    def columns(self, params: Params, part: Part) -> Columns:
        name = repr(sorted(params.items()))
        if name not in self._found:
            trained = fit_towers(self.dataset, self.parts, with_params(self.settings, params), self.progress)
            tested = replace(self.parts, calibrate=self.parts.test)
            self._found[name] = {
                "validation": of_places(Probe.of(self.dataset, self.parts, trained.every).places(trained.model)),
                "held out": of_places(Probe.of(self.dataset, tested, trained.every).places(trained.model)),
            }
        return self._found[name][part]


def with_params(settings: RetrievalSettings, params: Params) -> RetrievalSettings:
    """Settings of retrieval with these values of `TOWER_SPACE`. InvalidArgument for a name it does not have."""
    for name in params:
        if name not in TOWER_SPACE:
            raise InvalidArgument(f"retrieval has no such setting; it has {', '.join(TOWER_SPACE)}", field=name)
    own = dict(params)
    loop = replace(settings.loop, lr=float(own.pop("lr", settings.loop.lr)))
    windows = int(own.pop("windows", settings.windows))
    return replace(settings, loop=loop, windows=windows, sizes=replace(settings.sizes, **own))


def of_places(places: Ints) -> Columns:
    """Columns of one right answer each, at these 0-based places."""
    gain = 1.0 / np.log2(places + 2.0)
    found = {f"ndcg@{k}": np.where(places < k, gain, 0.0) for k in (10, 20)}
    return found | {f"hr@{k}": (places < k).astype(np.float64) for k in (10, 20)}
