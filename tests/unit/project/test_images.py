"""The recipe of the images: clean, closed, complete, and what the other files say of it."""

import ast
import importlib.util
import os
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.published import ROOT, read, said

SERVICES = ("gateway", "feature", "retrieval", "ranking", "explanation")
IMAGES = (*SERVICES, "serving", "jobs", "training", "mlflow")
RECIPE = (ROOT / "Dockerfile").read_text()
OURS = {"winnow", "services", "training", "cli", "parts", "bench", "jobs", "drills", "feature_repo", "tests", "scripts"}


def module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def stages() -> dict[str, list[str]]:
    """Instructions by the stage that they are in, comments left out, lines joined."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in RECIPE.splitlines() if not line.lstrip().startswith("#")))
    found: dict[str, list[str]] = {"": []}
    for line in filter(None, joined.splitlines()):
        if line.startswith("FROM "):
            found[line.rpartition(" AS ")[2]] = []
        found[list(found)[-1]].append(line)
    return found


def targets() -> list[str]:
    return [name for name in stages() if name not in ("", "build", "runtime")]


def built() -> list[dict[str, Any]]:
    """Every image that compose.yaml or the release builds: its service, extra and target."""
    composed = [one["build"] for one in read("compose.yaml")["services"].values() if "build" in one]
    told = [{**build["args"], "target": build.get("target", "service")} for build in composed]
    matrix = read(".github/workflows/release.yml")["jobs"]["images"]["strategy"]["matrix"]["include"]
    told += [{"SERVICE": one["service"], "EXTRA": one["extra"], "target": one["target"]} for one in matrix]
    return told


def test_a_linter_of_recipes_finds_nothing() -> None:
    status, words = said("hadolint", "--failure-threshold", "style", "Dockerfile")
    assert status == 0, words


def test_the_recipe_starts_from_a_version_and_takes_nothing_else_from_outside() -> None:
    [base] = re.findall(r"^ARG BASE=(.+)", RECIPE, re.MULTILINE)
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+-slim-\w+", base)
    starts = [
        instruction.split()[1] for found in stages().values() for instruction in found if "FROM " in instruction[:5]
    ]
    assert set(starts) <= {"${BASE}", "${BUILDER}", "runtime"}
    assert not re.search(r"^(ADD|COPY).*https?:", RECIPE, re.MULTILINE)


@pytest.mark.parametrize("target", targets())
def test_an_image_is_run_by_nobody_in_particular_and_says_how_it_is(target: str) -> None:
    last = [line for line in stages()[target] if line.startswith("USER ")]
    assert last == ["USER 10001:10001"]
    assert [line for line in stages()[target] if line.startswith("HEALTHCHECK ")]
    assert [line for line in stages()[target] if line.startswith("ENTRYPOINT [")]


def test_what_builds_is_not_in_what_runs() -> None:
    copied = [line for name in targets() for line in stages()[name] if line.startswith("COPY")]
    assert set(copied) == {"COPY --from=build /opt/winnow /opt/winnow"}
    assert not [line for line in stages()["runtime"] if re.search(r"\b(pip|apt-get|curl|gcc)\b", line)]


def test_the_context_holds_only_what_an_image_can() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in allowed
    kept = {line[1:] for line in allowed if line.startswith("!")}
    everything = {name for image in IMAGES for name in module("deploy/image/assemble.py").packages(image)}
    assert {name.partition("/")[0] for name in everything} <= kept
    assert not kept & {"tests", ".git", "build", "docs", ".github"}


@pytest.mark.parametrize("image", IMAGES)
def test_the_code_of_an_image_imports_none_that_it_lacks(image: str, tmp_path: Path) -> None:
    assemble = module("deploy/image/assemble.py")
    assemble.copy(image, ROOT, tmp_path)
    files = list(tmp_path.rglob("*.py"))
    assert len(files) > (0 if image == "mlflow" else 30)
    sources = [ROOT / file.relative_to(tmp_path) for file in files if file.name != "entry.py"]
    missing = {name for file in sources for name in imported(file) if not there(tmp_path, name)}
    # Asked for on the command line alone; what reads it says what is missing.
    assert missing <= ({"drills"} if image == "training" else set())


@cache
def imported(file: Path) -> frozenset[str]:
    """Modules of ours that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return frozenset(name for name in names if name.partition(".")[0] in OURS)


def there(code: Path, name: str) -> bool:
    path = code.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def test_a_service_does_not_carry_the_others() -> None:
    packages = module("deploy/image/assemble.py").packages("ranking")
    assert set(packages) == {"winnow", "services/__init__.py", "services/ranking"}


@pytest.mark.parametrize("one", built(), ids=lambda one: str(one["SERVICE"]))
def test_what_is_built_has_a_target_and_an_extra(one: dict[str, str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert one["target"] in targets()
    assert one.get("EXTRA", one["SERVICE"]) in extras


def test_the_release_builds_every_image() -> None:
    matrix = read(".github/workflows/release.yml")["jobs"]["images"]["strategy"]["matrix"]["include"]
    assert {one["service"] for one in matrix} == set(IMAGES)


def test_the_chart_names_the_images_that_the_release_pushes(tmp_path: Path) -> None:
    """In the repository by the same registry and names; the owner is written into the chart when it is packed."""
    release = read(".github/workflows/release.yml")
    pushed = {f"winnow-{one['service']}" for one in release["jobs"]["images"]["strategy"]["matrix"]["include"]}
    text = (ROOT / "deploy/helm/winnow/values.yaml").read_text()
    values = yaml.safe_load(text)
    laptop = read("deploy/helm/winnow/values-laptop.yaml")
    named = {f"winnow-{name}" for name in values["services"]}
    told = (values["images"]["jobs"], values["images"]["stream"], values["mlflow"], laptop["services"]["all"])
    named |= {one.get("image", one)["repository"] for one in told}
    assert named == pushed
    assert values["images"]["registry"] == f"{release['env']['REGISTRY']}/winnow"
    (tmp_path / "deploy/helm/winnow").mkdir(parents=True)
    (tmp_path / "deploy/helm/winnow/values.yaml").write_text(text)
    [writes] = [step["run"] for step in release["jobs"]["chart"]["steps"] if "sed --in-place" in step.get("run", "")]
    owner = {"REGISTRY": release["env"]["REGISTRY"], "OWNER": "Shop", "PATH": os.environ["PATH"]}
    subprocess.run(["bash", "-euc", writes], cwd=tmp_path, env=owner, timeout=30, check=True)
    after = yaml.safe_load((tmp_path / "deploy/helm/winnow/values.yaml").read_text())
    assert after["images"].pop("registry") == "ghcr.io/shop"
    values["images"].pop("registry")
    assert after == values


def test_what_only_builds_and_tests_read_is_removed(tmp_path: Path) -> None:
    libraries = tmp_path / "lib/python3.11/site-packages"
    for name in ("numpy/tests/test_x.py", "pyarrow/lib.pyx", "numpy/x.h", "numpy/core.py", "own/tests/kept.py"):
        (libraries / name).parent.mkdir(parents=True, exist_ok=True)
        (libraries / name).touch()
    assemble = module("deploy/image/assemble.py")
    found = {path.name for path in assemble.needless(libraries)}
    assert found == {"tests", "lib.pyx", "x.h"}
