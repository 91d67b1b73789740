"""The Makefile is the list of commands; CI is one of them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = [
    *("demo", "trace", "up", "status", "down", "test", "check", "evaluate", "replay", "bench", "drill", "fuzz"),
    *("bench-peers", "bench-scale", "bench-vectors", "bench-gpu", "capacity"),
    *("cluster-check", "images", "sbom", "audit"),
    *("setup", "format", "proto", "lock", "clean"),
]


def outside() -> dict[str, str]:
    """The environment of somebody who types a command, even when these tests run under make themselves."""
    ours = {"ARGS", "CI", "DATA", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "ONCE", "QPS"}
    return {name: value for name, value in os.environ.items() if name not in ours}


def make(*arguments: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *arguments], cwd=folder, env=outside(), capture_output=True, text=True)


def planned(*arguments: str) -> str:
    """The last command that make would run."""
    return " ".join(make("--dry-run", *arguments).stdout.splitlines()[-1].split())


def test_make_alone_prints_every_command_with_one_line_of_help() -> None:
    printed = dict(re.findall(r"^  make ([\w-]+) +(\S.*)$", make().stdout, re.MULTILINE))
    assert sorted(printed) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["demo"], "-m cli demo --data ml-100k"),
        (["demo", "ONCE=1"], "-m cli demo --data ml-100k --once"),
        (["demo", "DATA=some/folder"], "-m cli demo --data some/folder"),
        (["evaluate", "DATA=ml-1m"], "-m cli evaluate --data ml-1m"),
        (["trace", "USER=405"], "-m cli trace --user 405"),
        (["bench"], "-m cli bench"),
        (["bench-peers"], "-m bench.peers --data ml-100k --plot docs/quality-latency.svg"),
        (["bench-scale"], "-m bench.scale"),
        (["bench-vectors"], "-m bench.vectors --plot docs/recall-latency.svg"),
        (["bench-gpu", "ARGS=--only onnx"], "-m bench.gpu --only onnx"),
        (["capacity", "QPS=500"], "-m bench.capacity --qps 500"),
        (["test"], "-m pytest -n 2 --dist loadfile"),
    ],
)
def test_a_command_calls_one_line_of_python(arguments: list[str], command: str) -> None:
    assert planned(*arguments) == f".venv/bin/python {command}"


def test_trace_does_not_take_the_name_of_whoever_typed_it() -> None:
    result = make("trace")
    assert result.returncode == 2
    assert "make trace USER=" in result.stderr


def test_trace_of_nobody_is_asked_whose_request() -> None:
    assert "make trace USER=405" in planned("trace", "USER=")


def test_every_command_runs_without_telemetry(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    (tmp_path / "Makefile").write_text(f"{makefile}\n.PHONY: shown\nshown:\n\t@env\n")
    shown = make("shown", folder=tmp_path).stdout.splitlines()
    assert {"ORT_DISABLE_TELEMETRY=1", "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=1"} <= set(shown)


def test_what_a_command_imports_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    makefile = (ROOT / "Makefile").read_text()
    (tmp_path / "Makefile").write_text(f"{makefile}\n.PHONY: shown\nshown:\n\t@env\n")
    assert "PYTHONDONTWRITEBYTECODE" not in make("shown", folder=tmp_path).stdout


@pytest.fixture
def ci(tmp_path: Path) -> Path:
    """A folder with .ci/run and a `make test` of our own."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    return tmp_path


@pytest.mark.parametrize(("outcome", "status"), [("1 passed", 0), ("1 failed, 2 passed", 2)])
def test_ci_ends_with_the_closing_line_and_the_exit_status_of_make_test(ci: Path, outcome: str, status: int) -> None:
    closing = f"===== {outcome} in 1.23s ====="
    (ci / "Makefile").write_text(f"test:\n\t@echo CI=$$CI; echo '{closing}'; echo after; exit {status}\n")
    result = subprocess.run(["bash", ci / ".ci/run"], env=outside(), capture_output=True, text=True)
    assert result.stdout.splitlines()[0] == "CI=true"
    assert result.stdout.splitlines()[-1] == closing
    assert result.returncode == status
