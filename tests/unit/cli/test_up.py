"""`winnow up` stopped while it starts: it says what it left, and what it left can be gone on with or ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cli.up import up
from winnow.errors import FailedPrecondition
from winnow.home import DATASET

ROOT = Path(__file__).resolve().parents[3]
THREE_PROGRAMS = """
import sys
from pathlib import Path
from types import SimpleNamespace

import cli.main, cli.up
from parts.program import Program
from parts.stack import Stack

def program(name):
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    return Program(name, command, Path("programs").absolute(), lambda: "" if Path("ready").exists() else "not yet")

cli.up.registry_of = lambda home: SimpleNamespace(champion=lambda kind: "1")
Stack.waves = lambda stack: [[program("one"), program("two")], [program("three")]]
cli.main.main()
"""
"""The command, with programs in the place of parts and services that answer when the test says so."""


def test_ctrl_c_while_it_starts_says_what_stays_and_how_to_go_on(tmp_path: Path) -> None:
    def winnow(verb: str) -> "subprocess.Popen[str]":
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", THREE_PROGRAMS, verb]
        return subprocess.Popen(command, cwd=tmp_path, env=env, stdout=-1, stderr=-1, text=True)

    def running() -> dict[str, int]:
        notes = [json.loads(file.read_text()) | {"name": file.name} for file in (tmp_path / "programs").glob("*.json")]
        return {note["name"].partition(".")[0]: note["pid"] for note in notes if psutil.pid_exists(note["pid"])}

    try:
        with winnow("up") as up:
            assert up.stderr is not None
            assert up.stderr.readline() == "one …\n"  # the first wave is started, and it waits for the first of it
            up.send_signal(signal.SIGINT)
            said = up.communicate()[1]
        assert up.returncode == 130
        assert "not all of it is up; what was started stays: make down stops it, make up goes on" in said
        assert "Traceback" not in said
        left = running()
        assert sorted(left) == ["one", "two"]
        (tmp_path / "ready").touch()
        with winnow("up") as again:
            again.communicate()
        assert again.returncode == 0
        assert sorted(running()) == ["one", "three", "two"]
        assert running().items() >= left.items(), "what stayed is not started again"
    finally:
        with winnow("down") as down:
            ended = down.communicate()[1]
    assert "3 programs stopped" in ended
    assert running() == {}


@pytest.mark.parametrize(
    ("promoted", "named", "full", "said"),
    [
        ((), False, False, "has no promoted retrieval model; make demo ONCE=1 DATA=ml-100k trains it"),
        ((), True, False, "winnow demo --once --data … --home {home} reads a data set into it and trains it"),
        ((), True, True, "winnow train retrieval --promote --home {home} trains it; then ranking, likewise"),
        (("retrieval",), True, True, "ranking model; winnow train ranking --promote --home {home} trains it"),
    ],
)
def test_a_home_without_models_says_how_that_home_gets_them(
    promoted: tuple[str, ...], named: bool, full: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.up.registry_of", lambda _: SimpleNamespace(champion=lambda kind: kind in promoted or None))
    if full:
        (tmp_path / DATASET).touch()
    with pytest.raises(FailedPrecondition) as refused:
        up(home=tmp_path if named else None)
    assert said.format(home=tmp_path) in refused.value.detail
