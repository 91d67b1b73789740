"""An answer as a document (the words of the REST face) and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.console import table
from winnow.requests import Answer

STAGES = ("feature", "retrieval", "ranking", "arrange", "explanation")


def document(answer: Answer) -> dict[str, Any]:
    """The answer as the REST face words it."""
    from services.gateway.answers import answer_json

    return answer_json(answer)


def answer_table(title: str, answer: Mapping[str, Any]) -> Table:
    """One row per item of an answer's document."""
    rows = table(title, "#", "title", "sources", "#P(click)", "#P(convert)", "#E[value]", "#score", "reason")
    for one in answer["items"]:
        predictions = one["predictions"] or {}
        rows.add_row(
            str(one["rank"]),
            escape(named(one)),
            ", ".join(one["sources"]),
            *(number(predictions.get(head)) for head in ("click", "convert", "value")),
            number(one["score"]),
            escape(reason_of(one)),
        )
    return rows


def named(one: Mapping[str, Any]) -> str:
    """The item's title, or its id where nothing else is known."""
    return str((one["item"] or {}).get("title") or one["item_id"])


def reason_of(one: Mapping[str, Any]) -> str:
    reason = one["reason"]
    return reason["text"] if isinstance(reason, dict) else str(reason or "")


def number(value: float | None) -> str:
    """Four significant digits; nothing for nothing."""
    return "" if value is None else f"{value:.4g}"


def remarks(answer: Mapping[str, Any]) -> str:
    """Below the table: what was skipped and how long it took."""
    skipped = ", ".join(answer["skipped"]) or "nothing"
    took = answer["took_ms"]
    stages = ", ".join(f"{stage} {took[stage]:.1f}" for stage in sorted(took, key=in_order) if stage != "total")
    return f"skipped: {skipped} · {took.get('total', 0):.1f} ms ({stages})"


def in_order(stage: str) -> int:
    """The place of a stage in the pipeline: an answer over gRPC has lost their order. Stages of a newer platform last."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)
