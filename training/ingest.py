"""A data set becomes a home: canonical Parquet in the log's folders, rejects beside them, `dataset.json` last.

Running it again does nothing while the source is the same, and brings in what changed in it since; another data set takes
its place only where the caller says so. Everything is written into a folder of its own and moved into place at the end,
so an interrupted run leaves the home as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.data import open_source
from training.data.clean import Cleaned, clean_events, clean_items, clean_users
from training.data.source import Source
from winnow.canonical import EVENTS, ITEMS, USERS
from winnow.errors import FailedPrecondition, InvalidArgument
from winnow.eventlog import held, sync_folder
from winnow.home import DATASET, events_folder, items_folder
from winnow.segments import segment_path

FORMAT = 1
TABLES = {"events": EVENTS, "items": ITEMS, "users": USERS}

Progress = Callable[[str, int], None]
"""Told the name of a table and how many of its rows are done."""
Clean = Callable[[pl.DataFrame], Cleaned]
Prints = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class IngestSummary:
    """What a home holds. `rejected` counts bad rows (listed in rejects/), `left_out` rows omitted on purpose, by reason;
    `bare_items` are items that only events name; of `repeated_items` rows with an id that came before, the last row of
    the id counts. `skipped`: the home already held this. `origin` is the folder that it came from, where it was one."""

    name: str
    clock: str
    protocol: str
    positive_value: float
    digest: str
    events: int
    items: int
    users: int
    rejected: dict[str, int]
    left_out: dict[str, int]
    bare_items: int
    seconds: float
    repeated_items: int = 0
    skipped: bool = False
    origin: str = ""


def quiet(table: str, rows: int) -> None:
    """The progress of a run that nobody watches."""


def ingest(
    source: str, home: Path, progress: Progress = quiet, columns: Sequence[str] = (), *, replace: bool = False
) -> IngestSummary:
    """Make `home` hold the data set `source`: a known name, or the path of a folder (`columns` add to its map)."""
    return ingest_source(open_source(source, columns), home, progress, replace=replace)


def ingest_source(source: Source, home: Path, progress: Progress = quiet, *, replace: bool = False) -> IngestSummary:
    """NotFound: the set is absent. InvalidArgument: nothing of a file can be used. FailedPrecondition: the home holds
    another set, which only `replace` gives up, or live events, which a new import would renumber."""
    if (known := already(source, home, replace)) is not None:
        return known
    with held(events_folder(home)), held(items_folder(home)):
        if (known := already(source, home, replace)) is not None:  # another run has just ended
            return known
        return imported(source, home, progress)


def already(source: Source, home: Path, replace: bool) -> IngestSummary | None:
    """The home's summary where it holds this very source; FailedPrecondition where it may not hold another."""
    known = summary_of(home)
    if known is not None and known.digest == source.digest:
        return known
    refuse_live(known, source, home)
    if known is not None and not replace:
        refuse_another(known, source, home)
    return None


def imported(source: Source, home: Path, progress: Progress) -> IngestSummary:
    """The source in the place of what the home held. Both of its logs are locked: there is one staging folder."""
    started = time.monotonic()
    staging = home / ".ingest"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        summary = written(source, staging, started, progress)
        publish(staging, home)
        write_text(home / DATASET, json.dumps({"format": FORMAT, **asdict(summary)}, indent=1))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return summary


def summary_of(home: Path) -> IngestSummary | None:
    """What the last ingestion said of this home, or None."""
    try:
        document: dict[str, Any] = json.loads((home / DATASET).read_text(encoding="utf-8"))
    except FileNotFoundError:  # also while a running ingestion has it taken away
        return None
    if document.pop("format") != FORMAT:
        raise FailedPrecondition(f"{DATASET} was written by another release; ingest into a new home")
    return IngestSummary(**{**document, "skipped": True})


def refuse_live(known: IngestSummary | None, source: Source, home: Path) -> None:
    if any((home / "log").glob("*/live-*.log")):
        there = f"the data set {known.name} and live events on top of it" if known else "live events"
        asked = f"new content of {source.name}" if known and known.name == source.name else source.name
        raise FailedPrecondition(f"{os.path.relpath(home)} holds {there}; {asked} needs another --home")


def refuse_another(known: IngestSummary, source: Source, home: Path) -> None:
    """Older homes do not say which folder they were read from: there the name alone tells."""
    moved = known.origin and source.origin and known.origin != source.origin
    if known.name == source.name and not moved:
        return
    there, asked = ((f"{one.name} from {one.origin}" if moved else one.name) for one in (known, source))
    raise FailedPrecondition(
        f"{os.path.relpath(home)} holds the data set {there}, not {asked}; choose another --home, or give up what it holds "
        "with winnow ingest --replace"
    )


def written(source: Source, staging: Path, started: float, progress: Progress) -> IngestSummary:
    """Write all tables and rejects below `staging`."""
    with Table("events", staging, "item_id") as events:
        events.fill(source.events(), Unique(), progress)
    with Table("users", staging, "user_id") as users:
        users.fill(source.users(), clean_users, progress)
    with Table("items", staging, "item_id") as items:
        items.fill(source.items(), clean_items, progress)
        bare = bare_items(events.ids - items.ids)
        items.write(bare)
    if not events.rows:
        raise InvalidArgument(f"{source.name}: not one event", field="source")
    return IngestSummary(
        name=source.name,
        clock=source.clock,
        protocol=source.protocol,
        positive_value=source.positive_value,
        digest=source.digest,
        events=events.rows,
        items=len(items.ids),
        users=users.rows,
        rejected={table.name: table.rejected for table in (events, items, users)},
        left_out=dict(sorted(source.left_out.items())),
        bare_items=bare.num_rows,
        seconds=round(time.monotonic() - started, 2),
        repeated_items=items.rows - len(items.ids),
        origin=source.origin,
    )


class Table:
    """One canonical table being written, chunk by chunk, and its rejects. `ids` collects the values of `key`."""

    def __init__(self, name: str, staging: Path, key: str) -> None:
        self.name = name
        self.rows = 0
        self.rejected = 0
        self.ids: set[str] = set()
        self._key = key
        self._path = segment_path(staging / "log" / name, "import", 1)
        self._path.parent.mkdir(parents=True)
        self._writer = pq.ParquetWriter(self._path, TABLES[name], compression="zstd")
        (staging / "rejects").mkdir(exist_ok=True)
        self._rejects = (staging / "rejects" / f"{name}.jsonl").open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._rejects.close()
        sync(self._path)

    def fill(self, frames: Iterator[pl.DataFrame], clean: Clean, progress: Progress) -> None:
        """Clean and write every frame; InvalidArgument when not one row is good."""
        first = ""
        for frame in frames:
            cleaned = self._cleaned(frame, clean)
            self.write(cleaned.table)
            self._reject(cleaned.rejects)
            first = first or "".join(f"row {row}: {why}" for row, why in cleaned.rejects[:1])
            progress(self.name, self.rows)
        if self.rejected and not self.rows:
            raise InvalidArgument(f"{self.name}: all {self.rejected} rows are bad; {first}", field="source")

    def _cleaned(self, frame: pl.DataFrame, clean: Clean) -> Cleaned:
        try:
            return clean(frame)
        except pl.exceptions.PolarsError as wrong:
            reason = str(wrong).splitlines()[0]
            raise InvalidArgument(f"{self.name}: a column has a type that it cannot have: {reason}") from wrong

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)
        self.ids.update(pc.unique(table[self._key]).to_pylist())
        self.rows += table.num_rows

    def _reject(self, rejects: list[tuple[int, str]]) -> None:
        self._rejects.writelines(json.dumps({"row": row, "reason": why}) + "\n" for row, why in rejects)
        self.rejected += len(rejects)


def bare_items(ids: set[str]) -> pa.Table:
    """Items of which nothing but the id is known, in the order of their ids."""
    return pa.Table.from_pylist([{"item_id": item_id, "available": True} for item_id in sorted(ids)], schema=ITEMS)


class Unique:
    """`clean_events` that rejects an event id which came before. Hashes of 64 bits stand for the ids of earlier
    chunks: two different ids among a million are confused once in about 10^7 sets."""

    def __init__(self) -> None:
        self._seen = Fingerprints()

    def __call__(self, frame: pl.DataFrame) -> Cleaned:
        cleaned = clean_events(frame)
        hashes = pl.Series(cleaned.table["event_id"]).hash(0)
        prints = hashes.to_numpy()
        again = (~hashes.is_first_distinct()).to_numpy() | self._seen.holds(prints)
        self._seen.add(prints[~again])
        if not again.any():
            return cleaned
        twice = [(int(row), "event_id came before") for row in cleaned.rows[again]]
        good = cleaned.table.filter(pa.array(~again))
        return Cleaned(good, cleaned.rows[~again], sorted([*cleaned.rejects, *twice]))


class Fingerprints:
    """A set of 64-bit numbers that grows by chunks, 8 bytes each: sorted runs, each at least twice as long as the next,
    so that n numbers cost n log n in all however small the chunks are."""

    def __init__(self) -> None:
        self._runs: list[Prints] = []

    def holds(self, prints: Prints) -> npt.NDArray[np.bool_]:
        """(n,) which of these are in the set."""
        order = np.argsort(prints)
        wanted, found = prints[order], np.zeros(len(prints), np.bool_)
        for run in self._runs:
            found |= run[np.minimum(np.searchsorted(run, wanted), len(run) - 1)] == wanted
        back = np.empty_like(found)
        back[order] = found
        return back

    def add(self, prints: Prints) -> None:
        """These are not in the set yet, nor is one of them there twice."""
        run = np.sort(prints)
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")  # merges what is sorted in one pass
        if len(run):
            self._runs.append(run)


def publish(staging: Path, home: Path) -> None:
    """Move what was staged into the home. `dataset.json` goes first and comes back last: between the two, readers see
    that the home is incomplete."""
    home.mkdir(parents=True, exist_ok=True)
    (home / DATASET).unlink(missing_ok=True)
    for folder in ("rejects", *(f"log/{table}" for table in TABLES)):
        target = home / folder
        target.mkdir(parents=True, exist_ok=True)
        for old in [*target.glob("import-*.parquet"), *target.glob("*.jsonl")]:
            old.unlink()
        for file in sorted((staging / folder).iterdir()):
            file.replace(target / file.name)
        sync_folder(target)


def write_text(path: Path, text: str) -> None:
    """Write a file that is there wholly or not at all, also after a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
