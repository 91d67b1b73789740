"""MovieLens-100K: 943 people, 1,682 films, 100,000 ratings with wall-clock times (Harper and Konstan, 2015).

The set may not be redistributed. It ships as an example inside the wheel recbole 1.2.1, where it is read in place.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.data.source import CACHE, Source, one
from winnow.errors import InvalidArgument, NotFound

WHEEL = "recbole-1.2.1-py3-none-any.whl"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
INSIDE = "recbole/dataset_example/ml-100k/ml-100k."
FETCH_S = 300


def source() -> Source:
    wheel = find() or fetch()
    return Source(
        name="ml-100k",
        clock="real",
        protocol="leave-one-out",
        positive_value=4.0,
        digest=f"{SHA256}/1",
        events=lambda: events(wheel),
        items=lambda: items(wheel),
        users=lambda: users(wheel),
    )


def find() -> Path | None:
    """The wheel where an earlier run or WINNOW_DATA left it."""
    places = [CACHE, *([Path(os.environ["WINNOW_DATA"])] if os.environ.get("WINNOW_DATA") else [])]
    found = next((place / WHEEL for place in places if (place / WHEEL).is_file()), None)
    return found and checked(found)


def fetch() -> Path:
    """Ask pip for the wheel, without its dependencies; pip's own configuration says from where."""
    CACHE.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run([*pip, "--dest", str(CACHE), "recbole==1.2.1"], check=True, timeout=FETCH_S, capture_output=True)
    except (subprocess.SubprocessError, OSError) as failed:
        raise NotFound(
            f"data set ml-100k is inside the wheel {WHEEL}, and pip could not download it; "
            "fetch that file by hand into build/cache/",
            field="source",
        ) from failed
    return checked(CACHE / WHEEL)


def checked(wheel: Path) -> Path:
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise InvalidArgument(f"{wheel.name} has SHA-256 {found}, expected {SHA256}; delete it and try again")
    return wheel


def table(wheel: Path, name: str) -> pl.DataFrame:
    """One tab-separated file of the wheel, all text, columns without their type suffix."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(INSIDE + name)
    frame = pl.read_csv(content, separator="\t", quote_char=None, infer_schema=False)
    return frame.rename(lambda column: column.partition(":")[0])


def events(wheel: Path) -> Iterator[pl.DataFrame]:
    ratings = table(wheel, "inter").with_row_index("n")
    return one(
        ratings.select(
            pl.format("ml-100k-{}", "n").alias("event_id"),
            pl.lit("rating").alias("type"),
            "user_id",
            "item_id",
            pl.col("rating").alias("value"),
            pl.col("timestamp").alias("occurred_at"),
        )
    )


def items(wheel: Path) -> Iterator[pl.DataFrame]:
    films = table(wheel, "item")
    return one(
        films.select(
            "item_id",
            pl.col("movie_title").alias("title"),
            pl.col("class").str.split(" ").alias("categories"),
            pl.col("release_year").alias("attributes.year"),
            released("release_year"),
        )
    )


def released(year: str) -> pl.Expr:
    """The first day of a year as `created_at`; nothing for years before 1970."""
    number = pl.col(year).cast(pl.Int32, strict=False)
    return pl.when(number >= 1970).then(pl.datetime(number, 1, 1, time_zone="UTC")).alias("created_at")


def users(wheel: Path) -> Iterator[pl.DataFrame]:
    decade = pl.col("age").cast(pl.Int32) // 10 * 10
    return one(
        table(wheel, "user").select(
            "user_id",
            pl.format("{}-{}", decade, decade + 9).alias("traits.age_group"),
            pl.col("gender").alias("traits.gender"),
            pl.col("occupation").alias("traits.occupation"),
        )
    )
