"""Anybody's data: a folder with `events.*`, perhaps `items.*` and `users.*`, as Parquet, CSV or JSONL.

Columns that bear canonical names are taken as they are. `columns.toml` or `columns.json` beside them says where the
others come from, and what the set is:

    [dataset]
    clock = "real"                  # or "order": only the order of the times is true
    protocol = "leave-one-out"      # or "time"
    positive_value = 4.0            # a rating from here on counts as a conversion
    [events]
    user_id = "customer"            # canonical name = column of the file
    type = "=purchase"              # the same value for every row
    [items]
    "attributes.colour" = "colour"

Without `event_id` an event is named by its row. Without `type` it is a rating where there is a value, else a click.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from training.data import files
from training.data.source import Source, digest_of
from winnow.canonical import EVENTS, ITEMS, USERS
from winnow.errors import InvalidArgument, NotFound

CANONICAL = {"events": EVENTS.names, "items": ITEMS.names, "users": USERS.names}
OPEN = {"events": "context.", "items": "attributes.", "users": "traits."}  # prefixes of columns that a set may add
REQUIRED = {"events": ("item_id", "occurred_at"), "items": ("item_id",), "users": ("user_id",)}
CLOCKS = ("real", "order")
PROTOCOLS = ("leave-one-out", "time")
SETTINGS = {"name", "clock", "protocol", "positive_value"}

Columns = Mapping[str, Mapping[str, Any]]


def source(place: Path, options: Sequence[str] = ()) -> Source:
    """`options` add to the column map: `events.user_id=customer`, `dataset.clock=order`."""
    found = {table: file_of(place, table) for table in CANONICAL}
    if found["events"] is None:
        raise NotFound(f"{place} has no events.parquet, events.csv or events.jsonl", field="source")
    columns = column_map(place, options)
    about = columns.get("dataset", {})
    clock, protocol = one_of(about, "clock", CLOCKS), one_of(about, "protocol", PROTOCOLS)
    present = [file for file in found.values() if file is not None]
    plans = {table: plan(file, table, columns.get(table, {})) for table, file in found.items() if file is not None}
    name = str(about.get("name", place.resolve().name))
    return Source(
        name=name,
        clock=clock,
        protocol=protocol,
        positive_value=float(about.get("positive_value", 4.0)),
        digest=digest_of(present, json.dumps(columns, sort_keys=True), name, "folder/1"),
        events=lambda: (as_events(frame, name) for frame in read(found["events"], plans["events"])),
        items=lambda: read(found["items"], plans.get("items", {})),
        users=lambda: read(found["users"], plans.get("users", {})),
        origin=str(place.resolve()),
    )


def file_of(place: Path, table: str) -> Path | None:
    """The one file of a table, or None."""
    there = [place / f"{table}{suffix}" for suffix in files.SUFFIXES if (place / f"{table}{suffix}").is_file()]
    if len(there) > 1:
        raise InvalidArgument(f"keep one of {', '.join(file.name for file in there)}", field="source")
    return there[0] if there else None


def column_map(place: Path, options: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The map beside the files, with the options laid over it."""
    columns: dict[str, dict[str, Any]] = {}
    try:
        if (place / "columns.toml").is_file():
            columns = tomllib.loads((place / "columns.toml").read_text(encoding="utf-8"))
        elif (place / "columns.json").is_file():
            columns = json.loads((place / "columns.json").read_text(encoding="utf-8"))
        columns = {table: dict(entries) for table, entries in columns.items()}
    except (ValueError, TypeError) as wrong:
        raise InvalidArgument(f"the column map cannot be read: {wrong}", field="columns") from wrong
    for option in options:
        name, _, column = option.partition("=")
        table, _, canonical = name.partition(".")
        columns.setdefault(table, {})[canonical] = column
    for table, entries in columns.items():
        check_entries(table, entries)
    return columns


def check_entries(table: str, entries: Mapping[str, Any]) -> None:
    known = SETTINGS if table == "dataset" else CANONICAL.get(table)
    if known is None:
        raise InvalidArgument(f"[{table}]: known are dataset, {', '.join(CANONICAL)}", field="columns")
    for name in entries:
        if name not in known and not (table in OPEN and name.startswith(OPEN[table])):
            more = f", {OPEN[table]}…" if table in OPEN else ""
            raise InvalidArgument(f"[{table}] {name}: known are {', '.join(sorted(known))}{more}", field="columns")


def plan(file: Path, table: str, mapped: Mapping[str, Any]) -> dict[str, str]:
    """Canonical name -> column of the file, or `=constant`. InvalidArgument when the file has not what is needed."""
    there = files.columns_in(file)
    chosen = {name: name for name in there if name in CANONICAL[table] or name.startswith(OPEN[table])}
    chosen.update({name: str(column) for name, column in mapped.items()})
    for name, column in chosen.items():
        sparse = file.suffix == ".jsonl" and name not in REQUIRED[table]  # its rows may leave a column out
        if not (column.startswith("=") or column in there or sparse):
            raise lacking(file, f"column {column!r} (for {name})", there)
    for name in REQUIRED[table]:
        if name not in chosen:
            raise lacking(file, f"column {name!r}", there)
    if table == "events" and not {"user_id", "session_id"} & set(chosen):
        raise lacking(file, "column 'user_id' or 'session_id'", there)
    return chosen


def lacking(file: Path, what: str, there: Sequence[str]) -> InvalidArgument:
    has = ", ".join(there[:20]) or "none"
    return InvalidArgument(
        f"{file.name} has no {what}; it has {has}. Say in columns.toml which is which", field="source"
    )


def read(file: Path | None, chosen: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    """The file's frames with canonical columns; nothing where there is no file."""
    if file is None:
        return
    wanted = sorted({column for column in chosen.values() if not column.startswith("=")})
    for frame in files.frames(file, wanted):
        present = [pl.col("row"), *([pl.col("fault")] if "fault" in frame.columns else [])]
        yield frame.select(*present, *(value_of(frame, name, column) for name, column in chosen.items()))


def value_of(frame: pl.DataFrame, name: str, column: str) -> pl.Expr:
    if column.startswith("="):
        return pl.lit(column[1:]).alias(name)
    return (pl.col(column) if column in frame.columns else pl.lit(None, pl.String)).alias(name)


def as_events(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Name events and say their type where the set does not."""
    if "event_id" not in frame.columns:
        frame = frame.with_columns(pl.format("{}-{}", pl.lit(name), "row").alias("event_id"))
    if "type" not in frame.columns:
        frame = frame.with_columns(pl.lit("rating" if "value" in frame.columns else "click").alias("type"))
    return frame


def one_of(about: Mapping[str, Any], name: str, known: Sequence[Any]) -> Any:
    value = about.get(name, known[0])
    if value not in known:
        raise InvalidArgument(f"[dataset] {name} is one of {', '.join(known)}, not {value}", field="columns")
    return value
