"""The registry on a real MLflow server, whose artifacts travel over HTTP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parts.mlflow import mlflow
from parts.program import HOST, free_ports, running
from tests.unit.winnow.test_registry import bundle
from winnow.artifacts import open_bundle
from winnow.errors import NotFound, Unavailable
from winnow.registry import MlflowRegistry, Version

pytestmark = [pytest.mark.platform, pytest.mark.slow]


FOLLOWED = """
import sys
from pathlib import Path
from winnow.artifacts import open_bundle
from winnow.registry import MlflowRegistry
registry = MlflowRegistry(sys.argv[1], Path(sys.argv[2]))
assert registry.holder("retrieval", "challenger") is None
assert registry.champion("ranking") is None
bundle = open_bundle(registry.fetch(registry.champion("retrieval")), "retrieval")
assert not [name for name in sys.modules if name.split(".")[0] == "mlflow"]
print(bundle.id)
"""


def without_mlflow(address: str, cache: Path) -> str:
    """The champion as a process finds it that never imports MLflow: that takes seconds, at every start of a service."""
    command = [sys.executable, "-c", FOLLOWED, address, str(cache)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def test_a_bundle_travels_through_a_server_and_outlives_it(tmp_path: Path) -> None:
    home, sealed = tmp_path / "home", bundle(tmp_path / "made")
    [port] = free_ports(1)
    with running(mlflow(home, port)):
        address = f"http://{HOST}:{port}"
        trainer, serving = MlflowRegistry(address, tmp_path / "a"), MlflowRegistry(address, tmp_path / "b")
        assert serving.champion("retrieval") is None
        version = trainer.register(sealed)
        trainer.promote(version)
        assert serving.champion("retrieval") == version
        folder = serving.fetch(version)
        assert folder.is_relative_to(tmp_path / "b")
        assert open_bundle(folder, "retrieval").id == sealed.id
        assert [child.name for child in (tmp_path / "b").iterdir()] == [folder.name], "no half download stays"
        with pytest.raises(NotFound):
            serving.fetch(Version("retrieval", "99"))
        assert without_mlflow(address, tmp_path / "d") == sealed.id
        other = trainer.register(bundle(tmp_path / "other", "other"))
        assert (trainer.fetch(other) / "words.json").is_file()
        files = len(list((home / "mlartifacts").rglob("words.json")))
        trainer.forget(other)
        assert len(list((home / "mlartifacts").rglob("words.json"))) == files - 1
        with pytest.raises(NotFound):
            trainer.fetch(other)
    with pytest.raises(Unavailable):
        serving.champion("retrieval")
    assert serving.fetch(version) == folder
    assert MlflowRegistry(f"sqlite:///{home}/mlflow.db", tmp_path / "c").champion("retrieval") == version
