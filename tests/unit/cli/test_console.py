"""Progress for those who read it in a file."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from cli import console


def test_where_there_is_no_terminal_progress_is_told_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=written, soft_wrap=True, highlight=False))
    monkeypatch.setattr(console, "EVERY_S", 0.02)
    with console.bars() as progress:
        first = progress.add_task("retrieval", total=4, completed=1)
        until_said(written, "retrieval: 25 % after 0:00:00")
        said = written.getvalue().count("retrieval")
        time.sleep(0.1)
        assert written.getvalue().count("retrieval") == said, "nothing moved, so nothing is said"
        progress.update(first, completed=3, description="retrieval, epoch 3")
        until_said(written, "retrieval, epoch 3: 75 %")
        progress.update(first, completed=4)
    lines = written.getvalue().splitlines()
    assert "100%" in lines[-1], "the last state, as a bar"


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_say_it_themselves_and_json_is_left_alone(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    written = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=written, force_terminal=terminal, width=120))
    monkeypatch.setattr(console, "EVERY_S", 0.01)
    with console.bars(disable=not terminal) as progress:
        progress.add_task("retrieval", total=4, completed=1)
        time.sleep(0.1)
    assert "% after" not in written.getvalue()
    assert ("retrieval" in written.getvalue()) == terminal


def until_said(written: io.StringIO, words: str) -> None:
    until = time.monotonic() + 10
    while words not in written.getvalue():
        assert time.monotonic() < until, written.getvalue()
        time.sleep(0.005)
