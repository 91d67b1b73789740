"""The worlds that are measured: sizes, and a folder of each with its events, items and users as Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from training.data.generated import World, generate

PER_ITEM, ITEMS_PER_PERSON = 10, 5  # events an item, items a person
LADDER = (3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)  # items
LONG = 100_000_000  # events: the largest world, of a million items
LEAST = 30_000  # events of the smallest


def worlds(most: int) -> list[World]:
    """Every size up to `most` events, smallest first; the million items also with up to a hundred million events."""
    found = [World(n, n // ITEMS_PER_PERSON, n * PER_ITEM) for n in LADDER if n * PER_ITEM <= max(most, LEAST)]
    return [*found, World(LADDER[-1], LADDER[-1], LONG)] if most >= LONG else found


def lopsided() -> list[World]:
    """Small ones with many more people, and with many more events each: they tell one from the other in a process's memory."""
    return [World(3_000, 60_000, 120_000), World(3_000, 600, 300_000), World(40_000, 600, 60_000)]


def name_of(world: World) -> str:
    return f"{world.items}-{world.people}-{world.events}"


def named(name: str) -> World:
    """The world behind `name_of`."""
    return World(*map(int, name.split("-")))


def written(world: World, folder: Path) -> None:
    """Write the world into a folder, unless it is there; `world.json` comes last."""
    if (folder / "world.json").is_file():
        return
    (folder / "source").mkdir(parents=True, exist_ok=True)
    source = generate(world)
    for name, frames in (("events", source.events()), ("items", source.items()), ("users", source.users())):
        stream(frames, folder / "source" / f"{name}.parquet")
    (folder / "world.json").write_text(json.dumps(asdict(world)), encoding="utf-8")


def stream(frames: Iterator[pl.DataFrame], file: Path) -> None:
    """One frame at a time."""
    writer: pq.ParquetWriter | None = None
    try:
        for frame in frames:
            table: pa.Table = frame.drop("row").to_arrow()
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()
