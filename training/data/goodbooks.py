"""goodbooks-10k, a sample: 2,672 full histories, 10,000 books, 298,176 ratings (Zając, 2017; CC BY-SA 4.0).

The file knows an order (`seq`) and no times: `occurred_at` is 2000-01-01 plus `seq` minutes. The first author is
the brand; all authors are an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.data.ml_1m import minutes
from training.data.ml_100k import released
from training.data.source import Source, digest_of, folder, one


def source() -> Source:
    place = folder("goodbooks-10k-sample")
    ratings, books = place / "ratings.parquet", place / "books.parquet"
    return Source(
        name="goodbooks",
        clock="order",
        protocol="leave-one-out",
        positive_value=4.0,
        digest=digest_of([ratings, books], "goodbooks/1"),
        events=lambda: events(ratings),
        items=lambda: items(books),
        users=lambda: iter(()),
    )


def events(file: Path) -> Iterator[pl.DataFrame]:
    return one(
        pl.read_parquet(file)
        .sort("seq", maintain_order=True)
        .select(
            pl.format("goodbooks-{}", "seq").alias("event_id"),
            pl.lit("rating").alias("type"),
            "user_id",
            pl.col("book_id").alias("item_id"),
            pl.col("rating").alias("value"),
            minutes("seq"),
        )
    )


def items(file: Path) -> Iterator[pl.DataFrame]:
    return one(
        pl.read_parquet(file).select(
            pl.col("book_id").alias("item_id"),
            "title",
            pl.col("genres").alias("categories"),
            pl.col("authors").str.split(",").list.first().alias("brand"),
            pl.col("authors").alias("attributes.authors"),
            pl.col("language_code").alias("attributes.language"),
            pl.col("original_publication_year").alias("attributes.year"),
            released("original_publication_year"),
        )
    )
