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
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from training.data import files
from training.data.source import Source, digest_of
from winnow.canonical import EVENTS, ITEMS, USERS
from winnow.errors import InvalidArgument, NotFound
from winnow.nearest import meant

CANONICAL = {"events": EVENTS.names, "items": ITEMS.names, "users": USERS.names}
OPEN = {"events": "context.", "items": "attributes.", "users": "traits."}  # prefixes of columns that a set may add
REQUIRED = {"events": ("item_id", "occurred_at"), "items": ("item_id",), "users": ("user_id",)}
CLOCKS = ("real", "order")
PROTOCOLS = ("leave-one-out", "time")
TABLES: Mapping[str, Sequence[str]] = {"dataset": ("name", "clock", "protocol", "positive_value"), **CANONICAL}
MAPS = ("columns.toml", "columns.json")
EXAMPLE = 'for example user_id = "customer" under [events]'

Columns = Mapping[str, Mapping[str, Any]]


def source(place: Path, options: Sequence[str] = ()) -> Source:
    """`options` add to the column map: `events.user_id=customer`, `dataset.clock=order`."""
    found = {table: file_of(place, table) for table in CANONICAL}
    if found["events"] is None:
        raise NotFound(f"{place} has no events.parquet, events.csv or events.jsonl", field="source")
    columns, where = column_map(place, options), map_file(place).name
    about = columns.get("dataset", {})
    clock, protocol = one_of(about, "clock", CLOCKS, where), one_of(about, "protocol", PROTOCOLS, where)
    positive_value = number(about, "positive_value", 4.0, where)
    present = [file for file in found.values() if file is not None]
    plans = {table: plan(file, table, columns.get(table, {}), where) for table, file in found.items() if file}
    name = str(about.get("name", place.resolve().name))
    return Source(
        name=name,
        clock=clock,
        protocol=protocol,
        positive_value=positive_value,
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


def map_file(place: Path) -> Path:
    """Where the map is, or would be."""
    return place / (MAPS[1] if not (place / MAPS[0]).is_file() and (place / MAPS[1]).is_file() else MAPS[0])


def column_map(place: Path, options: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The map beside the files, with the options laid over it."""
    file = map_file(place)
    columns: dict[str, dict[str, Any]] = {}
    try:
        if file.is_file():
            text = file.read_text(encoding="utf-8-sig")  # some editors of Windows begin a file with a byte order mark
            columns = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except ValueError as wrong:
        raise InvalidArgument(f"{file.name} cannot be read: {wrong}; {EXAMPLE}") from wrong
    if not isinstance(columns, dict):
        raise InvalidArgument(f"{file.name} holds no tables; known are {', '.join(TABLES)}")
    for table, entries in columns.items():
        check_table(table, entries, file.name)
    columns = {table: dict(entries) for table, entries in columns.items()}
    for option in options:
        name, _, column = option.partition("=")
        table, _, canonical = name.partition(".")
        check_table(table, {canonical: column}, f"columns {option}")
        columns.setdefault(table, {})[canonical] = column
    return columns


def check_table(table: str, entries: Any, where: str) -> None:
    """InvalidArgument says where a mistake is, what is known there, and what may have been meant."""
    if table not in TABLES:
        owners = [f"[{owner}]" for owner, keys in TABLES.items() if table in keys and not isinstance(entries, Mapping)]
        remedy = f"; put it under {' or '.join(owners)}" if owners else meant(table, TABLES)
        raise InvalidArgument(f"{where}: {table} is no table{remedy}; known are {', '.join(TABLES)}")
    if not isinstance(entries, Mapping):
        raise InvalidArgument(f"{where}: {table} = {entries!r} is no table; {EXAMPLE}")
    for name, value in entries.items():
        check_entry(table, name, value, f"{where}: [{table}] {name}")


def check_entry(table: str, name: str, value: Any, where: str) -> None:
    prefix = OPEN.get(table, "")
    if isinstance(value, Mapping) and f"{name}." == prefix:
        inner = next(iter(value), "name")
        raise InvalidArgument(f'{where}: put the whole name into quotes: "{name}.{inner}" = "column"')
    if name not in TABLES[table] and not (prefix and name.startswith(prefix)):
        known = ", ".join([*sorted(TABLES[table]), *([f"{prefix}…"] if prefix else [])])
        raise InvalidArgument(f"{where} is no key{meant(name, TABLES[table])}; known are {known}")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidArgument(f"{where} = {value!r}: give one word or number; {EXAMPLE}")


def plan(file: Path, table: str, mapped: Mapping[str, Any], where: str) -> dict[str, str]:
    """Canonical name -> column of the file, or `=constant`. InvalidArgument when the file has not what is needed."""
    there = files.columns_in(file)
    chosen = {name: name for name in there if name in CANONICAL[table] or name.startswith(OPEN[table])}
    chosen.update({name: str(column) for name, column in mapped.items()})
    for name, column in chosen.items():
        sparse = file.suffix == ".jsonl" and name not in REQUIRED[table]  # its rows may leave a column out
        if not (column.startswith("=") or column in there or sparse):
            has = f"{file.name} has no column {column!r}{meant(column, there)}; it has {listed(there)}"
            raise InvalidArgument(f"{where}: [{table}] {name}: {has}")
    for name in REQUIRED[table]:
        if name not in chosen:
            raise lacking(file, table, (name,), there)
    if table == "events" and not {"user_id", "session_id"} & set(chosen):
        raise lacking(file, table, ("user_id", "session_id"), there)
    return chosen


def lacking(file: Path, table: str, names: Sequence[str], there: Sequence[str]) -> InvalidArgument:
    what = " or ".join(map(repr, names))
    remedy = f'say in {map_file(file.parent).name}, under [{table}], which it is: {names[0]} = "column"'
    return InvalidArgument(f"{file.name} has no column {what}; it has {listed(there)}; {remedy}", field="source")


def listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:20]) or "none"


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


def one_of(about: Mapping[str, Any], name: str, known: Sequence[Any], where: str) -> Any:
    value = about.get(name, known[0])
    if value not in known:
        choice = f"must be one of {', '.join(known)}{meant(str(value), known)}"
        raise InvalidArgument(f"{where}: [dataset] {name} = {value!r}: {choice}")
    return value


def number(about: Mapping[str, Any], name: str, default: float, where: str) -> float:
    value = about.get(name, default)
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise InvalidArgument(f"{where}: [dataset] {name} = {value!r}: must be a number, as {name} = {default}")
    return found
