"""The lock pins everything by hash, says nothing of where it came from, and is what is installed."""

import re
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))


def test_every_line_is_a_pin_or_a_hash() -> None:
    line = re.compile(r"[a-z0-9-]+==([0-9]+!)?[0-9][0-9a-z.]* \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [text for text in LOCK.splitlines() if not text.startswith("#") and not line.fullmatch(text)] == []


def test_every_range_of_the_project_is_met_by_a_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    for requirement in map(Requirement, wanted):
        if requirement.name != "winnow":
            assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), requirement


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {canonicalize_name(found.name): found.version.partition("+")[0] for found in distributions()}
    made_with_the_environment = {"winnow", "pip", "setuptools", "wheel"}
    assert {name: PINS.get(name) for name in installed.keys() - made_with_the_environment} == {
        name: installed[name] for name in installed.keys() - made_with_the_environment
    }


@pytest.mark.parametrize("cuda", ["nvidia-cublas", "nvidia-nccl-cu13", "triton"])
def test_the_default_build_of_torch_is_locked_with_its_cuda_libraries(cuda: str) -> None:
    assert cuda in PINS


def test_torch_on_this_machine_is_one_that_the_lock_allows() -> None:
    assert version("torch").partition("+")[0] == PINS["torch"]
