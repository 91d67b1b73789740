"""Online Retail II: two years of a British gift shop, 5,942 customers, about a million invoice lines with real times
and prices (Chen, 2019; CC BY 4.0).

A line is a purchase; returns, bookkeeping lines, lines without a customer and things that are not merchandise are
left out. Lines of one invoice share a time: the set is split by time, never by line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from training.data.source import Source, digest_of, folder, one


def source() -> Source:
    place = folder("online-retail")
    lines, goods = place / "transactions.parquet", place / "items.parquet"
    left_out: Counter[str] = Counter()
    return Source(
        name="online-retail",
        clock="real",
        protocol="time",
        positive_value=4.0,
        digest=digest_of([lines, goods], "online-retail/1"),
        events=lambda: events(lines, goods, left_out),
        items=lambda: items(goods),
        users=lambda: users(lines),
        left_out=left_out,
    )


def merchandise(goods: Path) -> pl.DataFrame:
    return pl.read_parquet(goods).filter("is_merchandise")


def events(lines: Path, goods: Path, left_out: Counter[str]) -> Iterator[pl.DataFrame]:
    every = pl.read_parquet(lines).with_row_index("row", offset=1)
    reasons = {
        "returned or cancelled": pl.col("quantity") <= 0,
        "bookkeeping, no price": pl.col("unit_price") <= 0,
        "customer unknown": pl.col("customer_id").is_null(),
        "not merchandise": ~pl.col("stock_code").is_in(merchandise(goods)["stock_code"].implode()),
    }
    reason = pl.coalesce(*(pl.when(rule).then(pl.lit(why)) for why, rule in reasons.items())).alias("reason")
    judged = every.with_columns(reason)
    left_out.clear()
    left_out.update(dict(judged.drop_nulls("reason").group_by("reason").len().iter_rows()))
    kept = judged.filter(pl.col("reason").is_null()).select(
        "row",
        pl.format("online-retail-{}", "row").alias("event_id"),
        pl.lit("purchase").alias("type"),
        pl.col("customer_id").alias("user_id"),
        pl.col("stock_code").alias("item_id"),
        pl.col("invoice_ts").alias("occurred_at"),
        pl.col("unit_price").alias("value"),
        "quantity",
        pl.col("invoice").alias("context.invoice"),
    )
    return kept.iter_slices(200_000)


def items(goods: Path) -> Iterator[pl.DataFrame]:
    return one(
        merchandise(goods).select(
            pl.col("stock_code").alias("item_id"),
            "title",
            pl.col("median_price").alias("price"),
            pl.lit("GBP").alias("currency"),
            pl.col("first_ts").alias("created_at"),
        )
    )


def users(lines: Path) -> Iterator[pl.DataFrame]:
    """A customer's country is that of their first line: known at any later moment."""
    known = pl.read_parquet(lines, columns=["customer_id", "country"]).drop_nulls("customer_id")
    first = known.group_by("customer_id", maintain_order=True).first()
    return one(first.select(pl.col("customer_id").alias("user_id"), pl.col("country").alias("traits.country")))
