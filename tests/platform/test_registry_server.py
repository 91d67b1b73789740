"""The registry on a real MLflow server, whose artifacts travel over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from parts.mlflow import mlflow
from parts.program import HOST, free_ports, running
from tests.unit.winnow.test_registry import bundle
from winnow.artifacts import open_bundle
from winnow.errors import NotFound, Unavailable
from winnow.registry import MlflowRegistry, Version

pytestmark = [pytest.mark.platform, pytest.mark.slow]


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
