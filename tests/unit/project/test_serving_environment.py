"""What a serving image installs, computed from the metadata of the environment that runs the tests."""

from importlib.metadata import Distribution, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SERVICES = ["gateway", "feature", "retrieval", "ranking", "explanation"]
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
    ("service", "needs"), [("retrieval", "faiss-cpu"), ("ranking", "onnxruntime"), ("gateway", "fastapi")]
)
def test_a_service_installs_what_it_runs_on(service: str, needs: str) -> None:
    assert closure(distribution("winnow"), frozenset({service})) >= {needs, "numpy", "grpcio", "uvloop"}


def test_only_who_follows_a_model_installs_a_registry_client() -> None:
    assert "mlflow-skinny" in closure(distribution("winnow"), frozenset({"ranking"}))
    assert "mlflow-skinny" not in closure(distribution("winnow"), frozenset({"gateway"}))
