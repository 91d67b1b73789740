"""Files that tools of others read, as data: YAML, and the schemas that those others publish for them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parents[1]


def read(path: str) -> dict[str, Any]:
    """A YAML file of this repository."""
    found: dict[str, Any] = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    return found


def check(path: str, schema: str) -> list[str]:
    """Every way in which a YAML file is not as the schema store has it: compose-spec, github-workflows, dependabot, …"""
    # As text, so that "on" stays a word and a cron line a string.
    document = yaml.load((ROOT / path).read_text(encoding="utf-8"), Loader=Words)
    published = distribution("check-jsonschema").locate_file(f"check_jsonschema/builtin_schemas/vendor/{schema}.json")
    rules = json.loads(Path(str(published)).read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(rules)(rules)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


class Words(yaml.SafeLoader):
    """YAML 1.2's idea of a boolean, which is what these tools have: true and false alone."""


Words.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def said(tool: str, *arguments: str) -> tuple[int, str]:
    """The exit status of a tool that comes with the environment, and what it says."""
    beside = Path(sys.executable).with_name(tool)
    program = str(beside) if beside.exists() else shutil.which(tool)
    assert program, f"{tool} is not installed: make setup"
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr
