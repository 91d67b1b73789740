"""Names, numbers and aims."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

import bench.commit
from bench.commit import commit
from bench.figures import AIMS, Aim, Figures, machine, show


def test_figures_are_dotted_names_to_numbers(tmp_path: Path) -> None:
    figures = Figures()
    figures.put("e2e.rest.one_process.ml-1m.50rps.p50_ms", 5.123456789)
    figures.put("rank.500.plain_ms", 8)
    figures.save(tmp_path / "build" / "bench.json")
    assert json.loads((tmp_path / "build" / "bench.json").read_text()) == {
        "e2e.rest.one_process.ml-1m.50rps.p50_ms": 5.12346,
        "rank.500.plain_ms": 8.0,
    }


@pytest.mark.parametrize("name", ["", "a..b", ".a", "Upper", "with space", "a/b"])
def test_a_name_that_is_not_dotted_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="dotted"):
        Figures().put(name, 1)


def test_nothing_is_measured_twice_and_nothing_but_numbers_is_kept() -> None:
    figures = Figures()
    figures.put("a", 1)
    with pytest.raises(ValueError, match="already"):
        figures.put("a", 2)
    with pytest.raises(ValueError, match="nan"):
        figures.put("b", float("nan"))


def test_an_aim_is_met_on_its_bound_and_missed_beyond_it() -> None:
    assert Aim("x", 2).met(2)
    assert not Aim("x", 2).met(2.01)
    assert Aim("x", 2.5, at_most=False).met(2.5)
    assert not Aim("x", 2.5, at_most=False).met(2.4)


def test_the_table_says_which_aims_were_missed() -> None:
    console = Console(record=True, width=120, file=io.StringIO())
    show(console, {"e2e.overhead_ratio": 2.31, "rank.500.speedup": 2.9, "rank.500.plain_ms": 8.1})
    text = console.export_text()
    assert "aims: 1 of 2 met" in text
    assert "not met: e2e.overhead_ratio is 2.31, aim ≤ 1.5" in text
    assert {aim.name for aim in AIMS} >= {"e2e.overhead_ratio", "rank.500.speedup"}


def test_the_machine_is_named() -> None:
    assert machine()["cores"]
    assert machine()["cpu"]
    assert machine()["commit"] == commit()


def test_a_commit_says_whether_the_code_was_changed_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(tmp_path)]
    (tmp_path / "bench").mkdir()
    code = shutil.copy(bench.commit.__file__, tmp_path / "bench")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True, timeout=30)
    monkeypatch.setattr(bench.commit, "__file__", code)
    clean = commit()
    assert len(clean) == 10
    Path(code).write_text("", encoding="utf-8")
    assert commit() == f"{clean}+"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit() == ""
