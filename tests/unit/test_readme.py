"""What is written about Winnow is true of it: links lead somewhere, commands exist, settings are all told."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase
from typer.testing import CliRunner

from cli.main import app
from services.all import Settings
from winnow.serving import telemetry

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"""\[[^\]]*\]\(([^)\s]+)\)|href="([^"]+)\"""")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / line for line in sorted(set(listed.splitlines()))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a browser of the repository makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[str]:
    """The commands of a page's `sh` blocks, one a string; a line that goes on inside quotes is one command."""
    found: list[str] = []
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "sh":
            found += whole_commands(block)
    return found


def whole_commands(block: str) -> list[str]:
    found, waiting = [], ""
    for line in block.splitlines():
        waiting = f"{waiting}\n{line}" if waiting else line
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # a quote is still open
            continue
        if words:
            found.append(waiting)
        waiting = ""
    assert not waiting, f"a quote is never closed: {waiting}"
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for markdown, html in LINK.findall(text):
        target, _, anchor = (markdown or html).partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(file), f"{target} has no heading #{anchor}"


def test_the_readme_has_the_commands_that_a_newcomer_needs() -> None:
    assert commands(ROOT / "README.md")[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_make_is_a_target(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
    named |= {shlex.split(command)[1] for command in commands(page) if command.startswith("make ")}
    assert named <= targets


def winnow_commands() -> list[list[str]]:
    every = [command for page in pages() for command in commands(page)]
    return [shlex.split(command, comments=True)[1:] for command in every if command.startswith("winnow ")]


def test_every_winnow_command_has_its_verb_and_options() -> None:
    verbs = {
        (words[0], words[1]) if words[0] in ("train", "keys", "rules", "audit") else (words[0],)
        for words in winnow_commands()
    }
    assert len(verbs) >= 8
    for verb in sorted(verbs):
        asked = CliRunner().invoke(app, [*verb, "--help"])
        assert asked.exit_code == 0, verb
        for words in winnow_commands():
            if tuple(words[: len(verb)]) == verb:
                assert all(word in asked.output for word in words if word.startswith("--")), words


def test_operating_tells_every_setting_and_every_metric() -> None:
    told = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    settings = {f"WINNOW_{name.upper()}" for name in Settings.model_fields}
    collectors = [value for value in vars(telemetry).values() if isinstance(value, MetricWrapperBase)]
    metrics = {metric.name for collector in collectors for metric in collector.describe()}
    assert len(metrics) >= 8
    assert {name for name in settings if f"`{name}`" not in told} == set()
    assert {
        name for name in metrics if f"`{name.removeprefix('winnow_')}" not in told.replace("`winnow_", "`")
    } == set()
    assert set(re.findall(r"`(WINNOW_[A-Z_]+)`", told)) - settings == {
        "WINNOW_DATA",
        "WINNOW_INDEX",
    }  # of the command line


def test_no_page_names_a_place_that_only_one_machine_has() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(work|opt|tmp|root|home/\w+)/", text), page
