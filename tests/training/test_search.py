"""A search of settings: the default first, resumed where it was stopped, within its budget, compared on what it never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from training.intervals import Columns
from training.search import METRICS, Params, Part, SearchSettings, Tried, search
from winnow.errors import InvalidArgument

PEOPLE = 200


@dataclass
class Hill:
    """A model whose quality is highest at x = 0.7; the held-out questions agree, with noise of their own. Settings with
    `odd` 13 do not work. `stops_at` is the trial during which somebody presses Ctrl-C."""

    name: str = "hill"
    key: str = "k"
    space: Mapping[str, BaseDistribution] = field(
        default_factory=lambda: {"x": FloatDistribution(0.0, 1.0), "odd": IntDistribution(12, 14)}
    )
    defaults: Params = field(default_factory=lambda: {"x": 0.2, "odd": 12})
    refits: int = 2
    stops_at: int = -1
    asked: list[tuple[Part, Params]] = field(default_factory=list)

    def columns(self, params: Params, part: Part) -> Columns:
        if len(self.asked) == self.stops_at:
            self.stops_at = -1
            raise KeyboardInterrupt
        self.asked.append((part, dict(params)))
        if params.get("odd") == 13:
            raise FloatingPointError("the loss is nan")
        hard = np.random.default_rng(part == "validation").random(PEOPLE) / 10
        quality = 1.0 - (float(params["x"]) - 0.7) ** 2
        return dict.fromkeys(METRICS, hard + quality)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "optimize.db"


def test_the_default_comes_first_and_the_best_is_better_on_what_no_trial_saw(file: Path) -> None:
    hill, told = Hill(), list[Tried]()
    chosen = search(hill, file, SearchSettings(minutes=0, trials=12), told.append)
    assert dict(told[0].params) == dict(hill.defaults)
    assert [part for part, _ in hill.asked].count("held out") == 2
    assert all(part == "validation" for part, _ in hill.asked[:-2])
    assert chosen.trials == 12
    assert chosen.validation[1] > chosen.validation[0]
    assert abs(chosen.params["x"] - 0.7) < 0.3
    assert chosen.gain["ndcg@10"].low > 0
    assert {one.words for one in told if one.metrics is None} <= {"the loss is nan"}


def test_a_search_that_was_stopped_goes_on_and_tries_again_what_was_running(file: Path) -> None:
    settings = SearchSettings(minutes=0, trials=5)
    stopped = Hill(stops_at=3)
    with pytest.raises(KeyboardInterrupt):
        search(stopped, file, settings)
    resumed, told = Hill(), list[Tried]()
    chosen = search(resumed, file, settings, told.append)
    assert chosen.trials == 5
    assert chosen.validation[0] == pytest.approx(1 - 0.25 + 0.05, abs=0.01), "the default is still the first"
    tried = [params for part, params in (*stopped.asked, *resumed.asked) if part == "validation"]
    assert len({tuple(sorted(p.items())) for p in tried}) == len(tried)
    assert search(Hill(), file, settings).params == chosen.params, "nothing is left to do"


def test_a_budget_in_minutes_is_that_of_all_starts_and_the_default_is_always_tried(file: Path) -> None:
    told = list[Tried]()
    assert search(Hill(), file, SearchSettings(minutes=1e-9), told.append).trials == 1
    search(Hill(), file, SearchSettings(minutes=1e-9), told.append)
    assert len(told) == 1


@dataclass
class Slow(Hill):
    """Takes a minute to fit, by a clock of its own."""

    now_s: float = 1_000.0

    def columns(self, params: Params, part: Part) -> Columns:
        self.now_s += 60 if part == "validation" or self.refits else 0
        return super().columns(params, part)


@pytest.mark.parametrize(("refits", "trials", "more"), [(2, 4, 23), (0, 6, 19)])
def test_loading_and_the_comparison_are_of_the_budget(
    file: Path, monkeypatch: pytest.MonkeyPatch, refits: int, trials: int, more: float
) -> None:
    slow = Slow(refits=refits, space={"x": FloatDistribution(0.0, 1.0)})
    monkeypatch.setattr("training.search.time", SimpleNamespace(monotonic=lambda: slow.now_s))

    def started(minutes: float) -> int:
        settings = SearchSettings(minutes, began=slow.now_s)
        slow.now_s += 240  # to load the data
        return search(slow, file, settings).trials

    assert started(10) == trials
    assert slow.now_s == 1_000 + 10 * 60
    assert started(10) == trials, "nothing is left of it"
    assert started(more) == trials + 1, "every start has loaded and compared"


def test_other_data_or_another_metric_is_another_search(file: Path) -> None:
    settings = SearchSettings(minutes=0, trials=2)
    assert search(Hill(), file, settings).trials == 2
    other, told = Hill(key="other"), list[Tried]()
    search(other, file, settings, told.append)
    assert len(told) >= 2


def test_a_metric_that_there_is_not_is_refused(file: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"ndcg@10"):
        search(Hill(), file, SearchSettings(metric="ndcg@7"))


def test_settings_that_never_work_end_the_search(file: Path) -> None:
    broken = Hill(defaults={"x": 0.1, "odd": 13}, space={"x": FloatDistribution(0, 1), "odd": IntDistribution(13, 13)})
    with pytest.raises(InvalidArgument, match="no settings worked"):
        search(broken, file, SearchSettings(minutes=0, trials=3))
