"""The benchmark of features runs, and says everything that it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import features
from bench.figures import AIMS, Figures
from tests.bundles import tiny_ranking_bundle
from training.dataset import load

pytestmark = [pytest.mark.platform, pytest.mark.slow]


def test_every_figure_of_features_is_measured(
    served_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, fewer in {"ITEMS_KNOWN": 600, "PEOPLE": 20, "EVENTS": 400, "USER_READS": 50, "WRITES": 10}.items():
        monkeypatch.setattr(features, name, fewer)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    figures = Figures()
    for name, value in features.features_here(tiny_ranking_bundle(tmp_path, load(served_home).items)).items():
        figures.put(name, value)
    aims = {aim.name for aim in AIMS if aim.name.startswith("features.")}
    assert aims < set(figures.values)
    assert all(value > 0 for value in figures.values.values())
