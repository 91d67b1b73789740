"""The checks of the chart find what they are for: each fault, planted alone, is found and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cluster.chart import check
from cluster.helm import CHART, Values
from tests.cluster.mutations import MUTATIONS


@pytest.mark.parametrize("fault", MUTATIONS)
def test_a_planted_fault_is_found_and_named(fault: str, tmp_path: Path) -> None:
    chart = tmp_path / "winnow"
    shutil.copytree(CHART, chart)
    mutation = MUTATIONS[fault]
    mutation.plant(chart)
    found = "\n".join(map(str, check(Values(single=mutation.values), chart, majors=["helm3"])))
    for words in mutation.told:
        assert words in found, found or "nothing was found"


def test_every_fault_of_an_object_is_told(tmp_path: Path) -> None:
    chart = tmp_path / "winnow"
    shutil.copytree(CHART, chart)
    for fault in ("a value of another type", "a field that Kubernetes does not know"):
        MUTATIONS[fault].plant(chart)
    found = [str(one) for one in check(Values(), chart, majors=["helm3"]) if one.where == "Deployment/winnow-gateway"]
    for version in ("1.29", "1.32", "1.37"):
        assert sum(version in one for one in found) == 2, found
