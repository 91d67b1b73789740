"""What runs on the forge: valid, pinned, with as few rights as it needs, and nothing but the Makefile's commands."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.published import ROOT, check, read, said

WORKFLOWS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / ".github/workflows").glob("*.y*ml"))
PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
IMAGE = re.compile(r"\b(?:ghcr\.io|docker\.io|quay\.io)/[\w./-]+(?::([\w.-]+))?")
MAY_WRITE = {
    # Pushing an image or the chart, signing it as this workflow, telling how it was made.
    (".github/workflows/release.yml", "images"): {"packages", "id-token", "attestations"},
    (".github/workflows/release.yml", "chart"): {"packages", "id-token"},
    (".github/workflows/release.yml", "publish"): {"contents", "id-token"},
}


def jobs(workflow: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(workflow)["jobs"]
    return found


def steps(workflow: str) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow).values() for step in job["steps"]]


def filled(run: str, job: dict[str, Any]) -> list[str]:
    """A command with each value of its matrix in place, where one of its variables has it."""
    values = job.get("strategy", {}).get("matrix", {}).get("target", [])
    return [run.replace('"$TARGET"', value) for value in values] if '"$TARGET"' in run else [run]


def test_there_are_workflows() -> None:
    assert {Path(path).stem for path in WORKFLOWS} >= {"ci", "nightly", "release", "supply-chain"}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_is_one_by_its_published_schema(workflow: str) -> None:
    assert check(workflow, "github-workflows") == []


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_make_target_that_a_workflow_names_exists(workflow: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [
        command
        for job in jobs(workflow).values()
        for step in job["steps"]
        for command in filled(step.get("run", ""), job)
    ]
    named = {name for command in commands for name in re.findall(r"\bmake ([a-z-]+)", command)}
    assert named <= targets
    assert named or ".ci/run" in "".join(commands)


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_what_others_wrote_is_pinned_by_commit_with_its_version_beside_it(workflow: str) -> None:
    lines = re.findall(r"uses:\s*(.+)", (ROOT / workflow).read_text())
    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line)] == []
    tags = [tag for step in steps(workflow) for tag in IMAGE.findall(step.get("run", ""))]
    assert [tag for tag in tags if not re.search(r"\d+\.\d+\.\d+", tag)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_token_may_read_and_only_named_jobs_may_write(workflow: str) -> None:
    assert read(workflow)["permissions"] in ({}, {"contents": "read"})
    for name, job in jobs(workflow).items():
        granted = job.get("permissions", {})
        assert isinstance(granted, dict), f"{name}: {granted}"
        writes = {scope for scope, right in granted.items() if right != "read"}
        assert writes == MAY_WRITE.get((workflow, name), set())
        assert job["timeout-minutes"] <= 120


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_no_command_is_put_together_from_what_somebody_wrote(workflow: str) -> None:
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_an_auditor_of_workflows_finds_nothing() -> None:
    status, words = said("zizmor", "--offline", "--quiet", "--no-progress", ".github")
    assert status == 0, words


@pytest.mark.parametrize("file", ["bug", "wish"])
def test_a_form_for_issues_is_one(file: str) -> None:
    assert check(f".github/ISSUE_TEMPLATE/{file}.yml", "github-issue-forms") == []


def test_the_list_of_moving_pins_is_one() -> None:
    assert check(".github/dependabot.yml", "dependabot") == []
    kinds = {update["package-ecosystem"] for update in read(".github/dependabot.yml")["updates"]}
    assert kinds >= {"github-actions", "docker", "docker-compose"}


def test_the_example_of_owners_names_what_exists() -> None:
    lines = (ROOT / ".github/CODEOWNERS.example").read_text().splitlines()
    places = [line.split()[0] for line in lines if line.startswith("/")]
    assert places
    assert [place for place in places if not list(ROOT.glob(place.strip("/")))] == []
