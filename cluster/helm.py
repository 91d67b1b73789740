"""Renders and lints a chart by the real Helm, of both majors. What comes back is objects, or Helm's own words."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from winnow.errors import FailedPrecondition, InvalidArgument

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy" / "helm" / "winnow"
PROGRAMS = ROOT / "build" / "helm"
MAJORS = ("helm3", "helm4")
LIMIT_S = 60.0
RELEASE, NAMESPACE = "winnow", "shop"

Object = dict[str, Any]


class Loader(yaml.CSafeLoader):
    """YAML in which a key that stands twice in one map is a mistake."""


def unique(loader: Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise InvalidArgument(f"line {node.start_mark.line + 1}: {key} stands twice in one map")
    return loader.construct_mapping(node, deep=deep)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, unique)


@dataclass(frozen=True)
class Values:
    """What an installation says: files beside the chart, and single values (`redis.replicas`) over them."""

    files: tuple[str, ...] = ()
    single: Mapping[str, Any] = field(default_factory=dict)

    def words(self, chart: Path) -> list[str]:
        """As Helm takes them; files lie beside the chart, or are named whole."""
        files = [word for file in self.files for word in ("--values", str(chart / file))]
        single = [f"{name}={json.dumps(value)}" for name, value in self.single.items()]
        return files + [word for one in single for word in ("--set-json", one)]


@dataclass(frozen=True)
class Helm:
    """One program and one chart. FailedPrecondition where the program is not here."""

    major: str = "helm3"
    chart: Path = CHART

    def render(self, values: Values = Values(), *, upgrade: bool = False) -> list[Object]:
        """Every object; InvalidArgument with Helm's words where the values or the templates are wrong."""
        return objects_in(self.text(values, upgrade=upgrade))

    def text(self, values: Values = Values(), *, upgrade: bool = False) -> str:
        """The same as Helm writes it, without its blank lines and remarks."""
        more = ["--is-upgrade"] if upgrade else []
        words = ["template", RELEASE, str(self.chart), "--namespace", NAMESPACE, *more, *values.words(self.chart)]
        lines = self._run(words).splitlines()
        return "\n".join(line for line in lines if line.strip() and not line.startswith("# Source"))

    def lint(self, values: Values = Values()) -> str:
        return self._run(["lint", "--strict", str(self.chart), *values.words(self.chart)])

    def _run(self, words: Sequence[str]) -> str:
        program = PROGRAMS / self.major
        if not program.is_file():
            raise FailedPrecondition(f"{program.relative_to(ROOT)} is missing; make helm fetches it")
        done = subprocess.run([str(program), *words], capture_output=True, text=True, timeout=LIMIT_S, env=quiet())
        if done.returncode:
            raise InvalidArgument(f"{self.major}: {(done.stderr.strip() or done.stdout.strip())[-2_000:]}")
        return done.stdout


def objects_in(text: str) -> list[Object]:
    try:
        return [one for one in yaml.load_all(text, Loader) if one]  # a safe loader's child
    except yaml.YAMLError as wrong:
        raise InvalidArgument(f"what Helm renders is no YAML: {wrong}") from wrong


def quiet() -> dict[str, str]:
    """Helm looks for plugins and repositories at home; there are none of ours. It ends within a second and 100 MB, so
    nobody need collect its garbage meanwhile: that takes a third of its time."""
    return {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", "HELM_PLUGINS": "/nonexistent", "GOGC": "off"}
