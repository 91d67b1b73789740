"""An upgrade from an earlier release: its values still render, and what Kubernetes never lets change did not.

`releases/<version>/` holds the values of a release and what its objects have that cannot be changed. A release adds its own:

    PYTHONPATH=. .venv/bin/python -m tests.cluster.test_upgrade 0.2.0
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.chart import check
from cluster.helm import CHART, Helm, Object, Values
from cluster.workloads import of_kind

RELEASES = Path(__file__).with_name("releases")
TOPOLOGIES = ("values", "values-laptop", "values-gpu", "values-ha")
KNOWN = sorted(path.name for path in RELEASES.iterdir() if path.is_dir())


def fixed(objects: list[Object]) -> dict[str, Any]:
    """What cannot be changed: selectors, a StatefulSet's claims and service, a claim's access, whether a Service is headless."""
    found: dict[str, Any] = {}
    for one in objects:
        name, spec = f"{one['kind']}/{one['metadata']['name']}", one.get("spec", {})
        if one["kind"] in ("Deployment", "StatefulSet"):
            claims = [[c["metadata"]["name"], c["spec"]["accessModes"]] for c in spec.get("volumeClaimTemplates", [])]
            found[name] = {"selector": spec["selector"], "service": spec.get("serviceName", ""), "claims": claims}
        elif one["kind"] == "PersistentVolumeClaim":
            found[name] = {"access": spec["accessModes"]}
        elif one["kind"] == "Service":
            found[name] = {"headless": spec.get("clusterIP") == "None"}
    return found


def values_of(release: str, topology: str) -> Values:
    """The release's whole values, so that a key that is gone since is found."""
    names = dict.fromkeys(("values", topology))
    return Values(tuple(str(RELEASES / release / f"{name}.yaml") for name in names))


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("release", KNOWN)
def test_the_values_of_an_earlier_release_still_render(release: str, topology: str) -> None:
    assert [str(one) for one in check(values_of(release, topology))] == []


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("release", KNOWN)
def test_what_cannot_be_changed_did_not(release: str, topology: str) -> None:
    before = yaml.safe_load((RELEASES / release / "fixed.yaml").read_text("utf-8"))[topology]
    now = fixed(Helm().render(values_of(release, topology), upgrade=True))
    assert {name: now[name] for name in before if name in now} == {name: before[name] for name in before if name in now}
    kept = [name for name in before if name.startswith(("PersistentVolumeClaim", "StatefulSet"))]
    assert [name for name in kept if name not in now] == [], "what holds data was renamed"


def test_an_upgrade_migrates_before_anything_rolls() -> None:
    hooks = {
        one["metadata"]["name"]: one["metadata"]["annotations"]["helm.sh/hook"]
        for one in of_kind(Helm().render(upgrade=True), "Job")
    }
    assert "pre-upgrade" in hooks["winnow-topics"]
    assert hooks["winnow-database"] == "pre-upgrade"


def snapshot(release: str) -> None:
    folder = RELEASES / release
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOPOLOGIES:
        shutil.copy(CHART / f"{name}.yaml", folder)
    whole = {name: fixed(Helm().render(values_of(release, name), upgrade=True)) for name in TOPOLOGIES}
    (folder / "fixed.yaml").write_text(yaml.safe_dump(whole, default_flow_style=None, width=160), "utf-8")


if __name__ == "__main__":
    snapshot(sys.argv[1])
