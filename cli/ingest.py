"""`winnow ingest`: a data set becomes a home."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from cli.audited import audited
from cli.console import bars, facts, note, show
from cli.homes import AsJson, Data, HomeOption, home_of

if TYPE_CHECKING:
    from pathlib import Path

    from training.ingest import IngestSummary


LARGE_SHARE = 0.2  # of a table's rows: so many bad ones are rarely single mistakes
LOOKED_AT = 100_000  # rejected rows, for the most frequent reason

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
    from training.data import open_source
    from training.ingest import ingest_source

    task = progress.add_task(f"reading {data}", total=None)
    source = open_source(data)  # before the act: a data set that is not here leaves no home behind

    def rows(table: str, done: int) -> None:
        progress.update(task, description=f"reading {data}: {table} {done:,}", completed=done)

    with audited(home, "data.ingest", data=data) as act:
        summary = ingest_source(source, home, rows, replace=replace)
        act.told.update(events=summary.events, items=summary.items, skipped=summary.skipped)
    progress.update(task, total=1, completed=1, description=f"{summary.events:,} events, {summary.items:,} items")
    for hint in hints(summary, home):
        note(hint)
    return summary


def hints(summary: IngestSummary, home: Path) -> Iterator[str]:
    """Of tables that lost so many rows that something of the whole table may be wrong: why, and where to look."""
    kept = {
        "events": summary.events,
        "items": summary.items - summary.bare_items + summary.repeated_items,
        "users": summary.users,
    }
    for table, rejected in summary.rejected.items():
        file = home / "rejects" / f"{table}.jsonl"
        if rejected < LARGE_SHARE * (kept[table] + rejected) or not rejected or not file.is_file():
            continue
        with file.open(encoding="utf-8") as lines:
            reasons = Counter(json.loads(line)["reason"] for line in islice(lines, LOOKED_AT))
        reason, times = reasons.most_common(1)[0]
        share = f"{rejected:,} of {kept[table] + rejected:,} rows of {table} were rejected"
        among = f" of the first {LOOKED_AT:,}" if rejected > LOOKED_AT else ""
        yield f"warning: {share}; most often ({times:,}{among}): {reason}; {file} names each"


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
