"""The dashboards are what their code says, Grafana's own model takes them, and nothing in them depends on a place."""

from __future__ import annotations

import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from scripts.dashboards.__main__ import FOLDER, documents, text_of
from tests.promql import boards, filled, queries

BOARDS = sorted(boards())


def test_they_are_current() -> None:
    assert {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.json")} == documents()


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_model_reads_and_writes_them_unchanged(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text("utf-8")
    assert text_of(text) == text


@pytest.mark.parametrize("name", BOARDS)
def test_they_can_be_imported_anywhere(name: str) -> None:
    board = boards()[name]
    assert board["uid"] == f"winnow-{name}"
    assert "id" not in board
    assert board["templating"]["list"][0]["type"] == "datasource"
    sources = [panel["datasource"]["uid"] for panel in shown(board)]
    assert set(sources) == {"${datasource}"}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_side_by_side_and_say_what_they_mean(name: str) -> None:
    board = boards()[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in shown(board):
        assert len(panel["description"]) > 5, panel["title"]
        assert panel["targets"], panel["title"]
    for one, other in combinations([panel["gridPos"] for panel in board["panels"]], 2):
        assert not overlap(one, other), (one, other)
        assert one["x"] + one["w"] <= 24


def test_every_query_is_promql_that_names_no_place() -> None:
    for query in queries():
        promql_parser.parse(query.expression)
        assert "$" not in query.expression
        for label in ("namespace", "pod", "cluster"):
            assert f"{label}=" not in query.expression


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: make packages")
def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{n}", "expr": query.expression} for n, query in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    ran = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_variable_is_filled_and_a_regular_expression_is_not() -> None:
    assert filled('x{a=~"$stage",b=~"${kind}"}[$__range] > 0') == 'x{a=~".*",b=~".*"}[10m] > 0'


def shown(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )
