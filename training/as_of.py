"""Training rows joined with what was known then: Feast's historical join, on the same Parquet, by Polars.

Feast's own (`FeatureStore.get_historical_features`) gives the same bits and stays the interface for its users. This one is
for training: it keeps every row it is given, where Feast 0.67's file store drops all but one of the rows that share a
user and a time while it joins the user's views, as the items of one page do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl

from winnow.feature_views import StoredView
from winnow.home import feature_file


def as_of(home: Path, views: Sequence[StoredView], rows: pl.DataFrame, *, known: bool = False) -> pl.DataFrame:
    """`rows`, in their order, with the columns of all views. They name each view's key and `event_timestamp` (UTC,
    microseconds); a feature row of that very moment counts, so to see what came before an event ask one microsecond
    earlier. `known`: only rows whose `created` is not later either (Feast's `filter_by_created_timestamp`).
    """
    joined = rows.with_row_index("asked").sort("event_timestamp")
    for view in views:
        joined = with_view(joined, pl.scan_parquet(feature_file(home, view.name)), view, known=known)
    return joined.sort("asked").drop("asked")


def with_view(rows: pl.DataFrame, kept: pl.LazyFrame, view: StoredView, *, known: bool) -> pl.DataFrame:
    wanted = kept.filter(pl.col(view.key).is_in(rows[view.key].unique().implode())).sort("event_timestamp").collect()
    if known:
        return with_known(rows, wanted, view)
    return rows.join_asof(
        wanted.drop("created"),
        on="event_timestamp",
        by=view.key,
        tolerance=timedelta(seconds=view.lasts_s),
        check_sortedness=False,
    )


def with_known(rows: pl.DataFrame, wanted: pl.DataFrame, view: StoredView) -> pl.DataFrame:
    """A row counts from its `created` on, and until a row of a later time counts."""
    since = wanted.rename({"event_timestamp": "row_at"}).sort("created", "row_at")
    newest = since.filter(pl.col("row_at") >= pl.col("row_at").cum_max().over(view.key))
    last = newest.unique([view.key, "created"], keep="last", maintain_order=True)
    joined = rows.join_asof(
        last.rename({"created": "event_timestamp"}), on="event_timestamp", by=view.key, check_sortedness=False
    )
    fresh = pl.col("row_at") >= pl.col("event_timestamp") - pl.duration(seconds=view.lasts_s)
    return joined.with_columns(pl.when(fresh).then(pl.col(name)).alias(name) for name in view.features).drop("row_at")
