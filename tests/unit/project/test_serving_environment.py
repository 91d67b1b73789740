"""What a serving image installs, computed from the metadata of the environment that runs the tests."""

import ast
import json
import subprocess
import sys
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EVERYTHING = """
import importlib, json, pkgutil, sys
package = importlib.import_module("services." + sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
own = {module.__file__ for name, module in sys.modules.items() if name.startswith(("services.", "winnow."))}
print(json.dumps(sorted(filter(None, own))))
"""
SERVICES = ["gateway", "feature", "retrieval", "ranking", "explanation"]
ON_DEMAND = {"retrieval": {"milvus"}}
"""Extras without which a service runs: what they bring is imported where settings ask for it, and only there."""
OFFLINE = {
    *("torch", "feast", "pandas", "polars", "duckdb", "scipy", "scikit-learn", "matplotlib", "pyspark"),
    *("mlflow", "onnx", "onnxscript", "pytest", "mypy", "grpcio-tools"),
}


def closure(root: Distribution, extras: frozenset[str]) -> set[str]:
    """Names of everything that `root[extras]` installs here."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(root, extras)]
    while waiting:
        package, wanted = waiting.pop()
        for requirement in map(Requirement, package.requires or []):
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in wanted or {""}):
                continue
            found = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if found not in seen:
                seen.add(found)
                waiting.append((distribution(requirement.name), found[1]))
    return {name for name, _ in seen} - {"winnow"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_installs_nothing_that_is_only_for_training(service: str) -> None:
    assert closure(distribution("winnow"), frozenset({service})) & OFFLINE == set()


def test_the_search_would_find_what_it_forbids() -> None:
    assert closure(distribution("winnow"), frozenset({"training"})) >= {"torch", "pandas", "mlflow", "onnxruntime"}


@pytest.mark.parametrize(
    ("service", "needs"),
    [
        ("retrieval", "faiss-cpu"),
        ("ranking", "onnxruntime"),
        ("gateway", "fastapi"),
        ("gateway", "fastapi-offline"),  # never imported: its files are served
    ],
)
def test_a_service_installs_what_it_runs_on(service: str, needs: str) -> None:
    assert closure(distribution("winnow"), frozenset({service})) >= {needs, "numpy", "grpcio", "uvloop"}


def test_only_who_follows_a_model_installs_a_registry_client() -> None:
    assert "mlflow-skinny" in closure(distribution("winnow"), frozenset({"ranking"}))
    assert "mlflow-skinny" not in closure(distribution("winnow"), frozenset({"gateway"}))


@pytest.mark.parametrize("service", SERVICES)
def test_whatever_a_service_imports_is_installed_with_it(service: str) -> None:
    ran = subprocess.run([sys.executable, "-c", EVERYTHING, service], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    files = json.loads(ran.stdout)
    assert len(files) > 30
    owners = packages_distributions()
    foreign = {name: owners[name] for file in files for name in imported(Path(file)) if name in owners}
    extras = frozenset({service} | ON_DEMAND.get(service, set()))
    installed = closure(distribution("winnow"), extras) | {"winnow"}
    missing = {name for name, of in foreign.items() if not {canonicalize_name(one) for one in of} & installed}
    assert missing == set()


def test_what_is_on_demand_is_not_imported_before() -> None:
    asked = "import sys, services.retrieval.__main__; sys.exit('pymilvus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], timeout=120).returncode == 0


def imported(file: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.partition(".")[0] for name in plain} | {
        (node.module or "").partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and not node.level
    }
