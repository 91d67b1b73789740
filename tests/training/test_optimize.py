"""`winnow optimize` on a tiny shop: trials in the home and in MLflow, and settings that training reads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.optimize import subject_of
from cli.settings_file import read_settings
from tests.homes import small_home
from training.dataset import load
from training.models.catalogue import CATALOGUE, kind_of, make, settings_of
from training.search import Subject
from training.split import split
from training.subjects import TOWER_SPACE, ContractModel, TwoTowers, with_params
from training.train_retrieval import PRESETS
from winnow.errors import InvalidArgument, NotFound
from winnow.trial_log import EXPERIMENT, PARENT

WORDS = ["optimize", "ease", "--minutes", "0", "--metric", "ndcg@20", "--json"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Searched twice, the second time for longer."""
    home = small_home(tmp_path_factory.mktemp("home"))
    for trials in ("1", "2"):
        asked = CliRunner().invoke(app, [*WORDS, "--home", str(home), "--trials", trials], catch_exceptions=False)
        assert asked.exit_code == 0, asked.output
    return home


def test_every_trial_is_a_run_in_mlflow_below_its_search(home: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    parents = [run for run in runs if PARENT not in run.data.tags]
    trials = [run for run in runs if PARENT in run.data.tags]
    assert (len(parents), len(trials)) == (1, 2), "the second start went on in the same search"
    assert {run.data.tags[PARENT] for run in trials} == {parents[0].info.run_id}
    assert all("ridge" in run.data.params and "ndcg_at_20" in run.data.metrics for run in trials)
    assert "held_out_ndcg_at_20" in parents[0].data.metrics
    first = next(run for run in trials if run.info.run_name == "trial 0")
    assert first.data.params["ridge"] == str(settings_of(kind_of("ease"), {}).ridge)


def test_what_was_chosen_is_a_file_that_training_reads(home: Path) -> None:
    file = home / "settings" / "ease.json"
    document = json.loads(file.read_text())
    assert document["trials"] == 2
    assert {"default", "best", "gain"} == set(document["held out"]["ndcg@20"])
    chosen = read_settings(file, "ease")
    assert settings_of(kind_of("ease"), chosen).ridge == pytest.approx(document["settings"]["ridge"])
    with pytest.raises(InvalidArgument, match="of ease, not of als"):
        read_settings(file, "als")
    with pytest.raises(NotFound):
        read_settings(home / "nothing.json", "ease")
    (home / "bad.json").write_text("[1]")
    with pytest.raises(InvalidArgument, match="no settings"):
        read_settings(home / "bad.json", "ease")


def test_neither_part_is_known_to_the_model_that_answers_it(home: Path) -> None:
    dataset = load(home)
    parts = split(dataset, "evaluate")
    subject = ContractModel("ease", dataset, parts)
    assert not (subject.before("validation") & (parts.calibrate | parts.test)).any()
    assert not (subject.before("held out") & parts.test).any()
    assert (subject.before("held out") & parts.calibrate).any()


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_search_can_begin_at_a_models_own_settings(name: str) -> None:
    own = make(name).settings
    for setting, distribution in kind_of(name).space.items():
        value = getattr(own, setting)
        assert distribution._contains(distribution.to_internal_repr(value)), f"{setting} {value} is outside its space"


def test_the_towers_take_what_a_search_may_vary() -> None:
    subject = TwoTowers(None, None, PRESETS["quick"])  # type: ignore[arg-type]
    assert set(subject.defaults) == set(TOWER_SPACE)
    changed = with_params(PRESETS["quick"], {"lr": 0.001, "windows": 16, "dropout": 0.3, "layers": 2})
    assert (changed.loop.lr, changed.windows, changed.sizes.dropout, changed.sizes.layers) == (0.001, 16, 0.3, 2)
    assert with_params(PRESETS["quick"], subject.defaults) == PRESETS["quick"]
    with pytest.raises(InvalidArgument, match="no such setting"):
        with_params(PRESETS["quick"], {"learning": 1})


def test_loading_the_data_is_of_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*asked: Any) -> Subject:
        time.sleep(3)
        return subject_of(*asked)

    monkeypatch.setattr("cli.optimize.subject_of", slowly)
    words = ["optimize", "ease", "--minutes", "0.05", "--trials", "3", "--json", "--home", str(small_home(tmp_path))]
    searched = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(searched.stdout)["trials"] == 1
