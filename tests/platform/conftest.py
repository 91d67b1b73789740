"""Homes that a whole platform can serve: a generated shop, and small bundles that are champions in its registry."""

from pathlib import Path

import pytest

from tests.bundles import tiny_ranking_bundle, tiny_retrieval_bundle
from tests.homes import small_home
from training.data.generated import World
from training.dataset import load
from winnow.registry import MlflowRegistry, prepare

SHOP = World(items=300, people=200, events=6_000, seed=7)


def platform_home(home: Path, world: World = SHOP) -> Path:
    """A home with data and two promoted bundles."""
    small_home(home, world)
    items = load(home).items
    registry = MlflowRegistry(f"sqlite:///{home}/mlflow.db", home / "state" / "bundles")
    for kind, make in (("retrieval", tiny_retrieval_bundle), ("ranking", tiny_ranking_bundle)):
        folder = home / "bundles" / kind
        folder.mkdir(parents=True)
        registry.promote(registry.register(make(folder, items)))
    return home


@pytest.fixture(scope="session")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such home for every test that writes nothing."""
    return platform_home(tmp_path_factory.mktemp("platform") / "home")


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a registry without models, to begin a home with: MLflow takes seconds to make one, since it goes
    through every form that its tables have ever had."""
    prepare()
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}", f"sqlite:///{file}").search_registered_models()
    return file
