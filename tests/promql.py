"""What the dashboards and rules ask: their queries as written, what a query selects, which labels it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

WINNOW = Path(__file__).parents[1] / "deploy" / "helm" / "winnow"
VARIABLES = {"$__rate_interval": "30s", "$__range": "10m"}
CHOICE = re.compile(r"\$\{?([a-z]+)\}?")
LEGEND = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel, its variables filled in; `legend` are the labels that its series are called by."""

    board: str
    panel: str
    expression: str
    legend: tuple[str, ...]


def boards() -> dict[str, Any]:
    return {file.stem: json.loads(file.read_text("utf-8")) for file in sorted((WINNOW / "dashboards").glob("*.json"))}


def queries() -> list[Query]:
    """Of every panel of every dashboard."""
    return [
        Query(name, panel["title"], filled(target["expr"]), tuple(LEGEND.findall(target["legendFormat"])))
        for name, board in boards().items()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]


def filled(expression: str) -> str:
    """With every choice at "all"."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return CHOICE.sub(".*", expression)


def rule_files() -> list[Path]:
    return sorted((WINNOW / "alerts").glob("*.yaml"))


def rules() -> list[dict[str, Any]]:
    """Every rule, alerts and records."""
    return [rule for file in rule_files() for rule in rules_of(file)]


def groups_of(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(file.read_text("utf-8"))["groups"])


def rules_of(file: Path) -> list[dict[str, Any]]:
    return [rule for group in groups_of(file) for rule in group["rules"]]


def selected(expression: str) -> set[tuple[str, frozenset[str]]]:
    """Every metric that the expression reads, with the labels that it must have: matched, grouped or joined by."""
    return {(name, labels) for name, labels in walk(promql_parser.parse(expression), frozenset())}


def joined_by(modifier: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Labels that both sides of an operator must have, and those that the right side gives to the left."""
    if modifier is None or modifier.matching is None:
        return frozenset(), frozenset()
    return frozenset(modifier.matching.labels), frozenset(modifier.group_labels or ())


def walk(node: Any, wanted: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    match type(node).__name__:
        case "VectorSelector":
            yield node.name, wanted | {matcher.name for matcher in node.matchers.matchers}
        case "MatrixSelector":
            yield from walk(node.vector_selector, wanted)
        case "AggregateExpr":
            by = node.modifier
            yield from walk(node.expr, wanted | frozenset(by.labels if by is not None else ()))
        case "Call":
            for argument in node.args:
                yield from walk(argument, frozenset() if node.func.name == "scalar" else wanted)
        case "BinaryExpr":
            joined, given = joined_by(node.modifier)
            yield from walk(node.lhs, (wanted - given) | joined)
            yield from walk(node.rhs, joined | given)
        case "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
            yield from walk(node.expr, wanted)
        case "NumberLiteral" | "StringLiteral":
            return
        case other:
            raise AssertionError(f"{other} is not looked into")
