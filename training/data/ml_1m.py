"""MovieLens-1M as the sequential-recommendation papers cut it (SASRec, BERT4Rec, gSASRec): 6,040 people, 3,416 films,
999,611 interactions. Research only, never redistributed.

The file knows an order and no times: `occurred_at` is 2000-01-01 plus `pos` minutes, the same minute for the
pos-th act of everyone. It holds no ratings either, so every interaction is a click.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from training.data.ml_100k import released
from training.data.source import Source, digest_of, folder, one

START = datetime(2000, 1, 1, tzinfo=UTC)


def source() -> Source:
    place = folder("ml-1m-sasrec")
    files = [place / f"{name}.parquet" for name in ("interactions", "items", "users")]
    return Source(
        name="ml-1m",
        clock="order",
        protocol="leave-one-out",
        positive_value=4.0,
        digest=digest_of(files, "ml-1m/1"),
        events=lambda: events(files[0]),
        items=lambda: items(files[1]),
        users=lambda: users(files[2]),
    )


def minutes(number: str) -> pl.Expr:
    """A synthetic time: `START` plus so many minutes."""
    return (pl.lit(START) + pl.duration(minutes=pl.col(number).cast(pl.Int64))).alias("occurred_at")


def events(file: Path) -> Iterator[pl.DataFrame]:
    return one(
        pl.read_parquet(file).select(
            pl.format("ml-1m-{}-{}", "user_id", "pos").alias("event_id"),
            pl.lit("click").alias("type"),
            "user_id",
            "item_id",
            minutes("pos"),
        )
    )


def items(file: Path) -> Iterator[pl.DataFrame]:
    return one(
        pl.read_parquet(file).select(
            "item_id",
            "title",
            pl.col("genres").alias("categories"),
            pl.col("year").alias("attributes.year"),
            released("year"),
        )
    )


def users(file: Path) -> Iterator[pl.DataFrame]:
    traits = [pl.col(name).alias(f"traits.{name}") for name in ("gender", "age_group", "occupation")]
    return one(pl.read_parquet(file).select("user_id", *traits))
