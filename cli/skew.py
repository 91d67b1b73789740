"""`winnow skew`: a data set played again through a running platform, then what was served against what the logs say.

The platform's home begins with what was known when a month began, and its models are of that. From then on it learns
by its own REST face what a shop would tell it: new items and prices each day, every basket, and after each basket the
same person asks. `jobs.skew` has the last word. Whether answers are good is not looked at.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from cli import replay
from cli.baskets import Log, Told, tell
from cli.console import bars, facts, show
from cli.homes import BUILD, AsJson, Data, HomeOption, short_name
from cli.ingest import ingested
from cli.models import registry_of
from cli.replay import First
from cli.train import Preset, Seed
from winnow.artifacts import Bundle, Kind
from winnow.home import DATASET, decisions_folder, events_folder, items_folder, users_folder
from winnow.segments import segment_path

if TYPE_CHECKING:
    from bench.processes import Wiring
    from jobs.skew import Report
    from training.past import Past
    from training.replay import Month

SETTINGS = {
    # What is compared are states and vectors, not times: a busy machine must not make a stage late.
    "WINNOW_FEATURE_BUDGET_MS": "30000",
    "WINNOW_RETRIEVAL_BUDGET_MS": "30000",
    "WINNOW_RANKING_BUDGET_MS": "30000",
    "WINNOW_WRITE_BUDGET_MS": "30000",
    "WINNOW_CANDIDATES": "100",  # a decision lists them all
    "WINNOW_DECISION_DISK_BYTES": str(16 * 2**30),  # none is dropped for a newer one
    "WINNOW_KAFKA_BOOTSTRAP": "",
    "WINNOW_REDIS_URL": "",
    "WINNOW_TRITON_ADDRESS": "",
    "WINNOW_MLFLOW_URI": "",
}

Minutes = Annotated[float, typer.Option("--minutes", min=0.0, help="How long to play at most; 0: to the end.")]
Processes = Annotated[int, typer.Option("--processes", help="5: each service is its own; 1: all in one.")]
Differences = Annotated[int, typer.Option("--differences", min=0, help="How many differences to show.")]


def skew(
    data: Data = "online-retail",
    home: HomeOption = None,
    preset: Preset = "quick",
    seed: Seed = 0,
    first: First = "",
    minutes: Minutes = 0.0,
    processes: Processes = 5,
    differences: Differences = 20,
    as_json: AsJson = False,
) -> None:
    """Play a data set through a platform and compare what it served with its logs; ends with 3 where they differ."""
    from jobs.skew import SKEWED

    if processes not in (1, 5):
        raise typer.BadParameter("1 or 5", param_hint="--processes")
    wiring: Wiring = "five_processes" if processes == 5 else "one_process"
    folder = home or BUILD / "replay" / short_name(data)
    with bars(disable=as_json) as progress:
        told, report, document = played(data, folder, preset, seed, first, minutes, wiring, differences, progress)
    show(document, facts(f"{data} played again", described(told, report)), as_json)
    if not whole(told, report):
        raise typer.Exit(SKEWED)


def played(
    data: str,
    folder: Path,
    preset: str,
    seed: int,
    first: str,
    minutes: float,
    wiring: Wiring,
    differences: int,
    progress: Progress,
) -> tuple[Told, Report, dict[str, Any]]:
    """`folder` is that of `winnow replay`, whose data and models of the month serve here, too."""
    from bench.processes import running
    from jobs.skew import decision_files, run
    from training.past import Past
    from training.replay import Month, months

    summary = ingested(data, folder / "whole", progress, replace=True)
    past, log = Past(folder / "whole"), Log(folder / "whole")
    [month] = months(past.whole, Month.named(first) if first else None, 1)
    models = replay.Run(past, folder, summary.digest, preset, seed, month).trained(
        month, past.until(month.start), progress
    )
    served = begun(past, log, folder / "whole", folder / "served", month, models)
    told, started = Told(), time.monotonic()
    with running(served, wiring, folder / "logs", SETTINGS) as platform:
        bar = progress.add_task(f"playing from {month}", total=None)
        until = time.monotonic() + minutes * 60 if minutes else inf
        tell(past, log, month.start, f"http://127.0.0.1:{platform.rest}", until, told)
        progress.update(bar, total=1, completed=1, description=f"{told.answers:,} answers until {told.last}")
    report = run(served, decision_files([decisions_folder(served)]), differences)
    return told, report, document_of(summary.name, month, told, report, time.monotonic() - started)


def begun(past: Past, log: Log, source: Path, home: Path, month: Month, models: Mapping[Kind, Bundle]) -> Path:
    """A home, made anew, that knows what was known when the month began, with these models as its champions."""
    import pyarrow.parquet as pq

    from winnow.canonical import item_table

    with suppress(FileNotFoundError):
        shutil.rmtree(home)
    tables = {
        events_folder(home): log.before(month.start),
        items_folder(home): item_table(past.items(month.start)),
    }
    for place, table in tables.items():
        place.mkdir(parents=True)
        pq.write_table(table, segment_path(place, "import", 1))
    shutil.copytree(users_folder(source), users_folder(home))
    shutil.copy(source / DATASET, home / DATASET)
    registry = registry_of(home)
    for bundle in models.values():
        registry.promote(registry.register(bundle))
    return home


def whole(told: Told, report: Report) -> bool:
    """Equal, and nothing is missing: of every answer its line, its state and its vector."""
    return report.fine and report.compared == report.ranked == report.vectors == told.answers


def described(told: Told, report: Report) -> dict[str, str]:
    first, *more = report.lines()
    skipped = ", ".join(f"{stage} {n:,}" for stage, n in told.skipped.most_common()) or "none"
    return {
        "told": f"{told.events:,} events, {told.items:,} versions of items, until {told.last}",
        "asked": f"{told.answers:,} answers; stages skipped: {skipped}",
        "compared": first,
        "": "\n".join(more),
    }


def document_of(data: str, month: Month, told: Told, report: Report, took_s: float) -> dict[str, Any]:
    return {
        "data": data,
        "first": str(month),
        "last": told.last,
        "events": told.events,
        "items": told.items,
        "answers": told.answers,
        "skipped": dict(told.skipped),
        "compared": report.compared,
        "equal": report.equal,
        "ranked": report.ranked,
        "vectors": report.vectors,
        "without": report.without,
        "repeated": report.repeated,
        "unreadable": dict(report.unreadable),
        "differing": dict(report.names),
        "seconds": round(took_s),
    }
