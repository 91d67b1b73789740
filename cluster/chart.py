"""All checks of the chart, over every combination of values, by both majors of Helm."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cluster import arrows, policy, schemas, shared, told, wiring
from cluster.combinations import COMBINATIONS
from cluster.finding import Finding
from cluster.helm import CHART, MAJORS, Helm, Object, Values, objects_in
from cluster.told import PARTS, PREFIX
from cluster.workloads import variables, workloads
from winnow.errors import InvalidArgument


def findings(objects: Sequence[Object], named: str = "") -> list[Finding]:
    """All that is wrong with what one installation would make."""
    found = [*schemas.check(objects)]
    if any(one.rule == "schema" for one in found):
        return sorted(found)  # what has another shape than Kubernetes takes cannot be looked into
    found += [*policy.check(objects), *wiring.check(objects, named), *told.check(objects, parts_of(objects))]
    return sorted({*found, *shared.check(objects), *arrows.check(objects)})


def parts_of(objects: Sequence[Object]) -> frozenset[str]:
    """Parts that anybody is led to."""
    names = {name for work in workloads(objects) for c in work.containers for name in variables(c)}
    return frozenset(part for field, part in PARTS.items() if f"{PREFIX}{field.upper()}" in names)


def named_in(values: Values, chart: Path = CHART) -> str:
    """The text of the values: what stands there is somebody else's to make."""
    files = [path.read_text("utf-8") for file in values.files if (path := chart / file).is_file()]
    return "".join([*files, json.dumps(dict(values.single))])


def check(values: Values, chart: Path = CHART, majors: Sequence[str] = MAJORS) -> list[Finding]:
    """Findings of one combination; Helm's refusal, and a difference between the majors, are findings too."""
    try:
        texts = {major: Helm(major, chart).text(values) for major in majors}
        objects = objects_in(texts[majors[0]])
        found = findings(objects, named_in(values, chart))
        for major in majors[1:]:
            if texts[major] != texts[majors[0]] and ordered(objects_in(texts[major])) != ordered(objects):
                found.append(Finding("chart", "helm", f"{major} renders other objects than {majors[0]}"))
    except InvalidArgument as refused:
        return [Finding("chart", "helm", refused.detail)]
    return found


def ordered(objects: Sequence[Object]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in objects)


def check_all(combinations: Mapping[str, Values] = COMBINATIONS) -> Iterator[tuple[str, list[Finding]]]:
    for name, values in combinations.items():
        yield name, check(values)


def lint_all() -> Iterator[tuple[str, str]]:
    """Major and topology, and what `helm lint --strict` has against it."""
    topologies = ("", *sorted(path.name for path in CHART.glob("values-*.yaml")))
    for major in MAJORS:
        for file in topologies:
            try:
                Helm(major).lint(Values((file,) if file else ()))
                yield f"{major} {file or 'values.yaml'}", ""
            except InvalidArgument as refused:
                yield f"{major} {file or 'values.yaml'}", refused.detail
