"""What a person sees: tables and JSON on stdout, progress and remarks on stderr, errors in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from winnow.errors import WinnowError

EVERY_S = 30.0  # between two lines of progress
WIDE = 160  # columns of a table that is written to a file or a pipe

out = Console(highlight=False)
if not out.is_terminal:
    out.width = WIDE
err = Console(stderr=True, soft_wrap=True, highlight=False)


@contextmanager
def bars(disable: bool = False) -> Iterator[Progress]:
    """Progress bars on stderr, one per task; where stderr is no terminal, a line now and then, and the last state."""
    columns = (
        TextColumn("  {task.description:<58}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, disable=disable) as progress:
        if disable or err.is_terminal:
            yield progress
        else:
            with told(progress, EVERY_S):
                yield progress


@contextmanager
def told(progress: Progress, every_s: float) -> Iterator[None]:
    """Print how far each task is that has moved since the last time: for a log of hours of work."""
    done = Event()

    def tell() -> None:
        before: dict[TaskID, tuple[str, int]] = {}
        while not done.wait(every_s):
            for task in progress.tasks:
                now = (task.description, int(task.percentage))
                if not task.finished and before.get(task.id) != now:
                    before[task.id] = now
                    err.print(f"  {task.description}: {now[1]} % after {timedelta(seconds=int(task.elapsed or 0))}")

    teller = Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def note(words: str) -> None:
    """A remark beside the result."""
    err.print(escape(words))


def show(document: Mapping[str, Any] | Sequence[Any], table: Table, as_json: bool) -> None:
    """The result: as a table for people, or as one JSON document for programs."""
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    else:
        out.print(table)


def table(title: str, *columns: str) -> Table:
    """An empty table; a column whose name starts with `#` is right-aligned, for numbers."""
    made = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column.startswith("#")
        made.add_column(
            escape(column.removeprefix("#")),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    return made


def facts(title: str, values: Mapping[str, Any]) -> Table:
    """A table of names and values."""
    made = table(title, "", "")
    made.show_header = False
    for name, value in values.items():
        made.add_row(escape(name), escape(str(value)))
    return made


def failure(error: WinnowError) -> str:
    """One line: what is wrong, the field it is about, and (the detail says it) the remedy."""
    where = f"{error.field}: " if error.field else ""
    return f"error: {where}{error.detail}"
