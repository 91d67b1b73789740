"""Commands as they are typed: tables, JSON, and errors of one line that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli import demo
from cli.answers import remarks
from cli.gate import FORCED, PROMOTED
from cli.homes import evaluation_home, home_of
from cli.main import app, main
from cli.models import registry_of
from parts.program import HOST, Program, alive, free_ports
from parts.services import listens
from tests.unit.winnow.test_registry import bundle
from winnow.errors import FailedPrecondition
from winnow.eventlog import held
from winnow.home import DATASET, events_folder, holds_data
from winnow.registry import Version


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three registered versions of retrieval: two have served, the first of them does now."""
    home = tmp_path_factory.mktemp("home")
    registry = registry_of(home)
    first, second, _ = (registry.register(bundle(home / "bundles" / name, name)) for name in ("one", "two", "three"))
    registry.promote(first)
    for served in (first, second):
        registry.note(served, PROMOTED, "2026-01-01T00:00:00+00:00")
    return home


def test_every_verb_has_help() -> None:
    names = [command.name for command in app.registered_commands]
    assert len(names) >= 8
    for verb in [[name] for name in names if name] + [["train"], ["train", "retrieval"], ["train", "ranking"]]:
        asked = CliRunner().invoke(app, [*verb, "--help"])
        assert asked.exit_code == 0, verb
        assert "usage" in asked.output.lower()


def test_promote_moves_the_champion_and_shows_who_it_is(home: Path) -> None:
    def champions(*words: str) -> list[str]:
        shown = CliRunner().invoke(app, ["promote", *words, "--home", str(home), "--json"])
        assert shown.exit_code == 0
        return [v["version"] for v in json.loads(shown.stdout)["retrieval"] if v["champion"]]

    assert champions() == ["1"]
    assert champions("retrieval", "2") == ["2"]
    assert champions("retrieval", "1") == ["1"]


def test_what_cannot_be_compared_is_promoted_only_for_a_reason(home: Path) -> None:
    refused = CliRunner().invoke(app, ["promote", "retrieval", "3", "--home", str(home)])
    assert isinstance(refused.exception, FailedPrecondition)
    assert "winnow ingest" in refused.exception.detail
    taken = CliRunner().invoke(app, ["promote", "retrieval", "3", "--home", str(home), "--force", "a trial"])
    assert taken.exit_code == 0
    assert registry_of(home).notes(Version("retrieval", "3"))[FORCED] == "a trial"
    assert CliRunner().invoke(app, ["promote", "retrieval", "1", "--home", str(home)]).exit_code == 0


def test_promote_prints_a_table_for_people(home: Path) -> None:
    shown = CliRunner().invoke(app, ["promote", "--home", str(home)])
    assert "winnow-retrieval" in shown.output
    assert "champion" in shown.output


def test_a_home_gives_up_its_data_set_only_where_that_is_said(tmp_path: Path) -> None:
    def ingested(data: str, *more: str) -> Result:
        return CliRunner().invoke(app, ["ingest", "--data", data, "--home", str(tmp_path), "--json", *more])

    assert ingested("generated:9,3,20").exit_code == 0
    refused = ingested("generated:9,3,20,1")
    assert isinstance(refused.exception, FailedPrecondition)
    assert "holds the data set generated-9-3-20-0, not generated-9-3-20-1" in refused.exception.detail
    assert json.loads(ingested("generated:9,3,20").stdout)["skipped"]
    assert json.loads(ingested("generated:9,3,20,1", "--replace").stdout)["name"] == "generated-9-3-20-1"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["ingest", "--data", "no-such-set"], 1, "no data set no-such-set"),
        (["promote", "--home", "empty"], 1, "winnow train registers one"),
        (["promote", "retrieval", "newest", "--home", "empty"], 2, "version: must be a number"),
        (["recommend"], 2, "user_id: give a user_id or a session_id"),
        (["recommend", "--user", "u", "-n", "1000"], 2, "n: must be between 1 and 100"),
        (["recommend", "--user", "u", "--url", "http://127.0.0.1:9"], 1, "start one with winnow serve"),
        (["train", "ranking", "--home", "empty"], 1, "run winnow ingest first"),
        (["nonsense"], 2, "No such command"),
        (["optimize", "eas"], 2, "no model 'eas' (did you mean ease?); there are popularity, "),
        (["optimize", "popularity"], 2, "popularity has no settings to search"),
        (["evaluate", "--models", "ease,sasrek"], 2, "--models: no model 'sasrek' (did you mean sasrec?); there are"),
        (["recommend", "--user", "u", "--url", "nonsense"], 2, "--url: Request URL is missing an 'http://' or"),
        (["up", "--without", "redis,foo"], 2, "--without: foo: the parts are redis, kafka"),
        (["keys", "list", "--file", "keys"], 1, "--file: no file keys; winnow keys create makes one"),
        (["keys", "revoke", "k", "--file", "keys"], 1, "--file: no file keys; winnow keys create makes one"),
        (["ingest", "--data", "generated:abc"], 2, "takes whole numbers"),
        (["ingest", "--data", ""], 2, "names nothing; give ml-100k"),
        (
            ["ingest", "--data", "generated:9,3,20", "--home", "/proc/h"],
            1,
            "/proc/h: No such file or directory; choose",
        ),
        (["ingest", "--data", "generated:9,3,20", "--home", "/etc/passwd/h"], 1, "Not a directory; choose a folder"),
        (["serve", "--home", "/proc/h"], 1, "/proc/h holds no data set; run winnow ingest first"),
        (["serve", "--data", "nope"], 1, "build/homes/nope holds no data set; run winnow ingest first"),
        (["serve", "--log-level", "foo"], 2, "'foo' is not one of"),
        (["demo", "--preset", "foo"], 2, "one of quick, full"),
        (["evaluate", "--preset", "foo"], 2, "one of quick, full"),
        (
            ["recommend", "--user", "u", "--grpc", "127.0.0.1:9"],
            1,
            "127.0.0.1:9 cannot be reached: nothing listens there",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["winnow", *words])
    for name in [name for name in os.environ if name.startswith("WINNOW_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == status
    assert said in printed.err
    assert printed.out == ""
    assert len([line for line in printed.err.splitlines() if line.startswith(("error: ", "Error: "))]) == 1


@pytest.mark.parametrize("verb", ["ingest", "demo"])
@pytest.mark.parametrize("data", ["nosuch", "/nowhere", "generated:abc"])
def test_a_data_set_that_is_not_there_leaves_no_home_behind(
    verb: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--home", "mine"]):
        assert CliRunner().invoke(app, [verb, "--data", data, *more]).exit_code != 0
    assert not [*tmp_path.iterdir()]


def test_an_address_that_is_none_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / DATASET).touch()
    monkeypatch.setattr(sys, "argv", ["winnow", "serve", "--home", str(tmp_path)])
    monkeypatch.setenv("WINNOW_REST_ADDRESS", "foo")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: WINNOW_REST_ADDRESS: give host:port, for example 127.0.0.1:8080\n"
    assert [file.name for file in tmp_path.iterdir()] == [DATASET]


def test_a_variable_that_nothing_reads_is_told_of_beside_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["winnow", "ingest", "--help"])
    monkeypatch.setenv("WINNOW_INDXE", "flat")
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert not ended.value.code
    assert "WINNOW_INDXE is set, and nothing reads it; did you mean WINNOW_INDEX?" in printed.err
    assert "--replace" in printed.out


def test_a_home_with_live_events_alone_is_served(tmp_path: Path) -> None:
    assert not holds_data(tmp_path)
    with held(events_folder(tmp_path)):
        assert not holds_data(tmp_path)
    (events_folder(tmp_path) / "live-1.log").touch()
    assert holds_data(tmp_path)


def test_the_mlflow_server_of_a_killed_demo_makes_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [usual] = free_ports(1)
    monkeypatch.setitem(demo.PORTS, "mlflow", usual)
    monkeypatch.setattr(demo, "mlflow", listener)
    left, _ = demo.mlflow_ui(tmp_path)
    left.wait_until_ready()
    again, port = demo.mlflow_ui(tmp_path)
    again.stop()
    assert not alive(left.process)
    assert port == usual


def listener(home: Path, port: int) -> Program:
    """What listens as MLflow's server does, without its 20 s."""
    command = (sys.executable, "-m", "http.server", str(port), "--bind", HOST)
    return Program("mlflow", command, home, lambda: listens(port))


def test_stages_are_told_in_the_order_of_the_pipeline() -> None:
    took = {"ranking": 3.0, "explanation": 4.0, "later": 5.0, "feature": 1.0, "total": 9.0, "retrieval": 2.0}
    said = remarks({"skipped": [], "took_ms": took})
    assert said.endswith("(feature 1.0, retrieval 2.0, ranking 3.0, explanation 4.0, later 5.0)")


def test_the_module_is_the_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "cli", "recommend"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2
    assert ran.stderr == "error: user_id: give a user_id or a session_id\n"


def test_homes_are_named_after_their_data() -> None:
    assert home_of("ml-100k") == Path("build/homes/ml-100k")
    assert home_of("some/folder/of mine") == Path("build/homes/of-mine")
    assert home_of("generated:100,20") == Path("build/homes/generated-100-20")
    assert home_of("../..") == Path("build/homes/data")
    assert home_of("ml-100k", Path("elsewhere")) == Path("elsewhere")
    assert evaluation_home("ml-1m") == Path("build/evaluate/ml-1m")
