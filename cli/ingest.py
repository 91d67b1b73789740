"""`winnow ingest`: a data set becomes a home."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from cli.audited import audited
from cli.console import bars, facts, show
from cli.homes import AsJson, Data, HomeOption, home_of

if TYPE_CHECKING:
    from pathlib import Path

    from training.ingest import IngestSummary


Replace = Annotated[bool, typer.Option("--replace", help="Give up another data set that the home holds.")]


def ingest(data: Data = "ml-100k", home: HomeOption = None, replace: Replace = False, as_json: AsJson = False) -> None:
    """Read a data set into a home; bad rows go to reject files and are counted."""
    folder = home_of(data, home)
    with bars(disable=as_json) as progress:
        summary = ingested(data, folder, progress, replace=replace)
    show(asdict(summary) | {"home": str(folder)}, facts(f"{folder}", described(summary)), as_json)


def ingested(data: str, home: Path, progress: Progress, *, replace: bool = False) -> IngestSummary:
    """What the home holds, after reading the data set unless it did already. `replace` is for homes that a command keeps
    for itself, too."""
    from training.ingest import ingest as read

    task = progress.add_task(f"reading {data}", total=None)

    def rows(table: str, done: int) -> None:
        progress.update(task, description=f"reading {data}: {table} {done:,}", completed=done)

    with audited(home, "data.ingest", data=data) as act:
        summary = read(data, home, rows, replace=replace)
        act.told.update(events=summary.events, items=summary.items, skipped=summary.skipped)
    progress.update(task, total=1, completed=1, description=f"{summary.events:,} events, {summary.items:,} items")
    return summary


def described(summary: IngestSummary) -> dict[str, str]:
    """The summary for people."""
    rejected = ", ".join(f"{n:,} {table}" for table, n in summary.rejected.items() if n) or "none"
    left_out = ", ".join(f"{n:,} {reason}" for reason, n in summary.left_out.items() if n) or "none"
    return {
        "events": f"{summary.events:,}",
        "items": f"{summary.items:,} ({summary.bare_items:,} known by id only)",
        **(
            {"repeated item ids": f"{summary.repeated_items:,} (the last row counts)"} if summary.repeated_items else {}
        ),
        "users with traits": f"{summary.users:,}",
        "rejected rows": f"{rejected}" + (" (rejects/*.jsonl say why)" if rejected != "none" else ""),
        "left out on purpose": left_out,
        "seconds": "0 (already here)" if summary.skipped else f"{summary.seconds:.1f}",
    }
