"""The registry on real MLflow: SQLite and a local folder."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from winnow.artifacts import Bundle, seal
from winnow.errors import NotFound, Unavailable
from winnow.registry import CHAMPION, KEPT_COPIES, MlflowRegistry, Version, metric_name, model_name


def bundle(folder: Path, word: str = "one") -> Bundle:
    folder.mkdir(parents=True)
    (folder / "words.json").write_text(json.dumps([word]))
    return seal(
        folder,
        "retrieval",
        facts={"dim": 128},
        metrics={"ndcg@10": 0.125, "loss": float("nan")},
        data={"name": "tiny"},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def registry(home: Path) -> MlflowRegistry:
    return MlflowRegistry(f"sqlite:///{home}/mlflow.db", home / "cache")


@pytest.fixture(scope="module")
def first(home: Path, registry: MlflowRegistry) -> tuple[Bundle, Version]:
    made = bundle(home / "bundles" / "first", "first")
    return made, registry.register(made, params={"dim": 128})


def test_nothing_is_champion_of_a_home_without_a_registry(tmp_path: Path) -> None:
    registry = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    assert registry.champion("retrieval") is None
    assert registry.versions("retrieval") == []
    assert not list(tmp_path.iterdir()), "asking must not make a database"


def test_asking_a_home_without_a_registry_does_not_import_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from winnow.registry import MlflowRegistry;"
        f"MlflowRegistry('sqlite:///{tmp_path}/mlflow.db', Path('{tmp_path}')).champion('ranking');"
        "assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_bundle_comes_back_as_it_went_in(registry: MlflowRegistry, first: tuple[Bundle, Version]) -> None:
    sealed, version = first
    fetched = registry.fetch(version)
    assert version.bundle == sealed.id
    assert sorted(p.name for p in fetched.iterdir()) == ["manifest.json", "words.json"]
    assert (fetched / "words.json").read_bytes() == sealed.file("words.json").read_bytes()


def test_the_same_bundle_is_registered_once(registry: MlflowRegistry, first: tuple[Bundle, Version]) -> None:
    sealed, version = first
    assert registry.register(sealed) == version


def test_metrics_parameters_and_data_are_shown_in_mlflow(
    home: Path, registry: MlflowRegistry, first: tuple[Bundle, Version]
) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db", f"sqlite:///{home}/mlflow.db")
    run = client.get_run(client.get_model_version("winnow-retrieval", first[1].number).run_id)
    assert run.data.metrics == {"ndcg_at_10": 0.125}
    assert run.data.params == {"dim": "128"}
    assert run.data.tags["data.name"] == "tiny"


def test_the_alias_moved_elsewhere_is_seen_by_the_next_poll(
    home: Path, registry: MlflowRegistry, first: tuple[Bundle, Version]
) -> None:
    """As a click in the MLflow UI moves it: another client on the same store."""
    from mlflow.tracking import MlflowClient

    second = registry.register(bundle(home / "bundles" / "second", "second"))
    assert int(second.number) > int(first[1].number)
    registry.promote(first[1])
    assert registry.champion("retrieval") == first[1]
    ui = MlflowClient(f"sqlite:///{home}/mlflow.db", f"sqlite:///{home}/mlflow.db")
    ui.set_registered_model_alias("winnow-retrieval", "champion", second.number)
    assert registry.champion("retrieval") == second
    ui.delete_registered_model_alias("winnow-retrieval", "champion")
    assert registry.champion("retrieval") is None
    assert registry.versions("retrieval")[:2] == [second, first[1]]


def test_the_champion_of_a_file_is_found_without_mlflow(
    home: Path, registry: MlflowRegistry, first: tuple[Bundle, Version]
) -> None:
    registry.promote(first[1])
    code = (
        "import sys; from pathlib import Path; from winnow.registry import MlflowRegistry;"
        f"registry = MlflowRegistry('sqlite:///{home}/mlflow.db', Path('{home}/cache'));"
        "version = registry.champion('retrieval'); print(version.number, version.bundle, registry.fetch(version));"
        "assert 'mlflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.split() == [first[1].number, first[0].id, str(registry.fetch(first[1]))]


def test_the_file_and_mlflow_give_the_same_answers(
    home: Path, registry: MlflowRegistry, first: tuple[Bundle, Version]
) -> None:
    """Also of a champion that was deleted, and of a file of another layout, where MLflow is asked."""
    from mlflow.tracking import MlflowClient

    second = registry.register(bundle(home / "bundles" / "deleted", "deleted"))
    registry.promote(second)
    assert registry.champion("retrieval") == registry._holder("retrieval", CHAMPION) == second
    assert registry._source(second) == registry._asked_source(second)
    MlflowClient(registry.uri, registry.uri).delete_model_version("winnow-retrieval", second.number)
    assert registry.champion("retrieval") == registry._holder("retrieval", CHAMPION)
    for ask in (registry._source, registry._asked_source):
        with pytest.raises(NotFound):
            ask(second)


def test_a_file_of_another_layout_is_left_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite3.connect(tmp_path / "mlflow.db").execute("CREATE TABLE other (name TEXT)").connection.close()
    registry = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    asked = Version("retrieval", "7", "from-mlflow")
    monkeypatch.setattr(registry, "_holder", lambda kind, alias: asked)
    assert registry.champion("retrieval") == asked


def test_a_model_nobody_registered_has_no_champion(registry: MlflowRegistry, first: tuple[Bundle, Version]) -> None:
    assert registry.champion("ranking") is None


def test_a_version_that_does_not_exist_is_not_found(registry: MlflowRegistry, first: tuple[Bundle, Version]) -> None:
    for call in (registry.fetch, registry.promote):
        with pytest.raises(NotFound):
            call(Version("retrieval", "999"))


def test_files_that_are_gone_are_not_found(home: Path, registry: MlflowRegistry) -> None:
    version = registry.register(bundle(home / "bundles" / "lost", "lost"))
    shutil.rmtree(registry.fetch(version))
    with pytest.raises(NotFound, match="gone"):
        registry.fetch(version)


def test_a_damaged_database_is_unavailable_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 500)
    with pytest.raises(Unavailable, match="not a database"):
        MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path).champion("retrieval")


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        MlflowRegistry("http://127.0.0.1:9", tmp_path).champion("retrieval")


def test_names_are_made_fit_for_mlflow() -> None:
    assert metric_name("hr@10") == "hr_at_10"
    assert metric_name("ece/click (%)") == "ece/click ___"
    assert model_name("ranking") == "winnow-ranking"


def test_telemetry_is_off_once_the_registry_is_used(registry: MlflowRegistry, first: tuple[Bundle, Version]) -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_copies_that_were_not_used_for_longest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MlflowRegistry("http://127.0.0.1:1", tmp_path / "cache")
    monkeypatch.setattr(registry, "_source", lambda version: "mlflow-artifacts:/somewhere")

    def download(source: str, target: Path) -> None:
        bundle(target, target.name)
        os.utime(target, (len(list(target.parent.iterdir())),) * 2)

    monkeypatch.setattr(registry, "_download", download)
    versions = [Version("retrieval", str(number)) for number in range(1, KEPT_COPIES + 3)]
    for version in versions[:-1]:
        registry.fetch(version)
        registry.fetch(versions[0])  # serves, and is looked at again
    (tmp_path / "cache" / "ranking-1-bundle").mkdir()
    registry.fetch(versions[-1])
    kept = {path.name for path in (tmp_path / "cache").iterdir()}
    wanted = [versions[0], *versions[-KEPT_COPIES + 1 :]]
    assert kept == {f"retrieval-{one.number}-bundle" for one in wanted} | {"ranking-1-bundle"}
