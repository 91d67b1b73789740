"""The column `image_vector` of a source, as items keep it: lists of numbers (Parquet, JSONL), or one text, its numbers between
commas, blanks or `|` and perhaps in brackets (CSV)."""

from __future__ import annotations

from typing import Any

import polars as pl

from winnow.errors import InvalidArgument
from winnow.image_vectors import FIELD, packed

BETWEEN = str.maketrans("[],|;", "     ")


def with_images(raw: pl.DataFrame) -> pl.DataFrame:
    """The frame, the column as bytes, null where a row has none; `fault` says of a row what is wrong with its vector."""
    column = raw[FIELD]
    if column.null_count() == len(column):
        return raw.with_columns(pl.lit(None, pl.Binary).alias(FIELD))
    judged = [kept_of(value) for value in column]
    kept = pl.Series(FIELD, [kept or None for kept, _ in judged], pl.Binary)
    faults = pl.Series("vector's", [fault for _, fault in judged], pl.String)
    return raw.with_columns(kept, pl.coalesce(pl.col("fault"), pl.lit(faults)).alias("fault"))


def kept_of(value: Any) -> tuple[bytes, str | None]:
    """One row's value as an item keeps it, or what is wrong with it."""
    try:
        return packed(numbers_of(value)), None
    except InvalidArgument as wrong:
        return b"", f"{FIELD} {wrong.detail}"


def numbers_of(value: Any) -> Any:
    if value is None:
        return []
    if isinstance(value, str):
        return value.translate(BETWEEN).split()
    if isinstance(value, pl.Series):
        return value.to_numpy()
    raise InvalidArgument("must be a list of numbers", field=FIELD)
