"""`winnow train MODEL`: every model of the catalogue is a command, and what it leaves is retrieval's challenger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.models import registry_of
from tests.training.circles import circle_world
from training.models.catalogue import CATALOGUE
from winnow.artifacts import open_bundle
from winnow.errors import FailedPrecondition, InvalidArgument
from winnow.registry import CHALLENGER


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    circle_world(home)
    return home


def test_every_model_is_a_command() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"])
    assert all(name in shown.output for name in ("retrieval", "ranking", *CATALOGUE))


def test_a_trained_model_is_the_challenger_and_its_figures_are_printed(home: Path) -> None:
    words = ["train", "markov", "--home", str(home), "--set", "acts=2", "--set", "decay=0.25", "--json"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    assert document["metrics"].keys() == {"hr_at_10", "hr_at_20", "ndcg_at_10", "ndcg_at_20"}
    assert document["metrics"]["ndcg_at_10"] > 0.8  # what comes next is the next item of the circle
    bundle = open_bundle(home / "bundles" / document["bundle"], "retrieval")
    assert bundle.facts["model"]["name"] == "markov"
    assert bundle.facts["together"] == {"acts": 2, "decay": 0.25}
    challenger = registry_of(home).holder("retrieval", CHALLENGER)
    assert challenger is not None
    assert challenger.number == document["version"]
    assert registry_of(home).champion("retrieval") is None


def test_what_is_wrong_is_said_before_any_work(home: Path, tmp_path: Path) -> None:
    for words, field in ((["decay=2"], "decay"), (["depth=3"], "depth")):
        refused = CliRunner().invoke(app, ["train", "markov", "--home", str(home), "--set", *words])
        assert isinstance(refused.exception, InvalidArgument)
        assert refused.exception.field == field
    assert CliRunner().invoke(app, ["train", "markov", "--home", str(home), "--set", "decay"]).exit_code == 2
    nothing = CliRunner().invoke(app, ["train", "markov", "--home", str(tmp_path)])
    assert isinstance(nothing.exception, FailedPrecondition)
