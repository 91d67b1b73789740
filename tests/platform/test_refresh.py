"""`winnow refresh` over a real registry: what changed serves, what did not costs nothing, a rollback is respected."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cli.gate import PROMOTED, VERDICT, Worse, take_over
from cli.main import app, main
from cli.models import Workshop, registry_of
from cli.turns import Exit, alone
from tests.bundles import tiny_ranking_bundle
from tests.refreshes import append, clicks, trained
from tests.training.worlds import colour_world
from training.dataset import Dataset
from training.sequences import Sequences
from training.split import split
from winnow.artifacts import Bundle, open_bundle
from winnow.registry import CHALLENGER, MlflowRegistry
from winnow.types import Item

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]

Home = Callable[..., Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Bundle, Bundle]:
    """Data, and a champion of each kind; homes of the tests share the bundles and begin with empty registries."""
    folder = tmp_path_factory.mktemp("world")
    dataset = colour_world(folder / "home", people=60, acts=15)
    retrieval = trained(dataset, split(dataset, "serve"), folder / "bundles")
    (folder / "ranking").mkdir()
    return dataset, retrieval, tiny_ranking_bundle(folder / "ranking", dataset.items)


@pytest.fixture
def home(world: tuple[Dataset, Bundle, Bundle], tmp_path: Path, empty_registry: Path) -> Path:
    colour_world(tmp_path / "home", people=60, acts=15)
    shutil.copy(empty_registry, tmp_path / "home")
    registry = registry_of(tmp_path / "home")
    for bundle in world[1:]:
        take_over(registry, registry.register(bundle))
    return tmp_path / "home"


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["refresh", "--home", str(home), "--json", *words])


def refreshed(home: Path, *words: str, status: Exit = Exit.DONE) -> dict[str, Any]:
    ran = run(home, *words)
    assert ran.exit_code == status, (ran.output, ran.exception)
    found: dict[str, Any] = json.loads(ran.stdout)
    assert ran.stderr.strip().splitlines()[-1] == found["words"]
    return found


def champion(registry: MlflowRegistry) -> str:
    version = registry.champion("retrieval")
    assert version is not None
    return version.number


def test_a_refresh_serves_and_says_what_it_is_of_and_the_next_has_nothing_to_do(
    world: tuple[Dataset, Bundle, Bundle], home: Path
) -> None:
    registry = registry_of(home)
    append(home, clicks(20, 100_000), [Item("brand-new", title="Thing of today", categories=("green",))])
    found = refreshed(home)
    assert (found["outcome"], found["new_items"], found["champion"]) == ("promoted", 1, "1")
    assert champion(registry) == found["version"] == "2"
    assert found["seconds"]["total"] >= found["seconds"]["compute"]
    version = registry.versions("retrieval")[0]
    notes = registry.notes(version)
    assert notes["data.refresh_of"] == world[1].id
    assert notes["data.snapshot"] == open_bundle(registry.fetch(version), "retrieval").data["snapshot"]
    assert notes[VERDICT].startswith(f"not worse than {world[1].id}")
    assert PROMOTED in notes
    run_id = registry._open().get_model_version("winnow-retrieval", "2").run_id
    params = registry._open().get_run(run_id).data.params
    assert "item_id" in params["features.item_tower"]
    assert len(params["sha256.item_tower.onnx"]) == 64
    assert registry.holder("retrieval", CHALLENGER) is None, "that alias is for what waits for a person"
    again = refreshed(home)
    assert again["outcome"] == "unchanged"
    assert "nothing changed" in again["words"]
    assert champion(registry) == "2"


def test_a_rollback_holds_until_somebody_says_otherwise(home: Path) -> None:
    registry = registry_of(home)
    assert refreshed(home)["outcome"] == "promoted"
    assert CliRunner().invoke(app, ["promote", "retrieval", "1", "--home", str(home)]).exit_code == 0
    append(home, clicks(5, 100_000, "i9"), [])
    held = refreshed(home)
    assert held["outcome"] == "held"
    assert champion(registry) == "1"
    assert refreshed(home, "--anew")["outcome"] == "promoted"
    assert champion(registry) == "3"


def test_a_refresh_that_is_worse_is_refused_and_the_champion_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(path: Path, dataset: Dataset, known: Sequences, k: int, own: None) -> None:
        """A bug: tables that hold no neighbour."""
        for name in ("follows", "together"):
            np.save(path / f"{name}_rows.npy", np.full((len(dataset.items), k), -1, np.int32))
            np.save(path / f"{name}_scores.npy", np.zeros((len(dataset.items), k), np.float32))

    monkeypatch.setattr("training.refresh.write_neighbours", nothing)
    found = refreshed(home, status=Exit.REFUSED)
    assert found["outcome"] == "refused"
    assert "is worse than" in found["words"]
    registry = registry_of(home)
    assert champion(registry) == "1"
    monkeypatch.undo()
    append(home, clicks(1, 100_000, "i9"), [])
    assert refreshed(home)["outcome"] == "promoted", "the next turn tries again"


def test_who_moves_the_alias_meanwhile_is_right(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_of(home)
    refreshed(home)

    def slow(*_: object) -> str:
        registry.promote(registry.versions("retrieval")[-1])
        return "not worse"

    monkeypatch.setattr("cli.refresh.judged", slow)
    append(home, clicks(1, 100_000, "i9"), [])
    assert refreshed(home)["outcome"] == "overtaken"
    assert champion(registry) == "1"


def test_old_refreshes_are_forgotten_with_their_files_and_trained_versions_stay(home: Path) -> None:
    registry = registry_of(home)
    folders = []
    for n in range(4):
        append(home, clicks(1, 100_000 + 1_000 * n, "i9"), [])
        assert refreshed(home, "--keep", "2")["outcome"] == "promoted"
        folders.append(registry.fetch(registry.versions("retrieval")[0]))
    assert [version.number for version in registry.versions("retrieval")] == ["5", "4", "1"]
    assert [(folder / "manifest.json").exists() for folder in folders] == [False, False, True, True]
    assert champion(registry) == "5"


def test_a_home_where_another_job_works_is_left_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["winnow", "refresh", "--home", str(home)])
    with alone(home, "retrain"), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == Exit.BUSY
    assert "retrain (process" in capsys.readouterr().err


def test_a_trained_challenger_is_not_beaten_by_a_refresh_that_knows_the_answers(
    world: tuple[Dataset, Bundle, Bundle], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(home)
    refreshed(home)
    other = trained(world[0], split(world[0], "serve"), tmp_path, seed=1)
    number = registry.register(other).number
    command = ["promote", "retrieval", number, "--home", str(home)]
    with monkeypatch.context() as patched:
        patched.setattr(Workshop, "rewound", lambda _self, bundle, _known: bundle)
        assert isinstance(CliRunner().invoke(app, command).exception, Worse), "else this test could not fail"
    assert champion(registry) == "2"
    assert CliRunner().invoke(app, command).exit_code == 0
    assert champion(registry) == number
