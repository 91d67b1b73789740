"""Rows of any source against the rules of `winnow.types`, column by column: the good ones as canonical tables, the
bad ones as (row, reason). The first rule that a row breaks is its reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from training.data.images import with_images
from winnow.canonical import EVENTS, ITEMS, USERS
from winnow.types import MAX_ATTRIBUTES, MAX_CATEGORIES, MAX_ID, MAX_TEXT, EventType

MAX_ATTRIBUTE = 2_000  # characters of an attribute's or trait's value
TIME = pl.Datetime("us", "UTC")
SECONDS_UNTIL_2200 = 7_258_118_400
CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
TYPES = [kind.value for kind in EventType]
MAX_QUOTED = 40  # characters of a value that a reason repeats
LISTS = "|"  # between categories where a source keeps them in one text


@dataclass(frozen=True)
class Cleaned:
    """A canonical table, the source row of each of its rows, and the source rows that did not make it, with reasons.

    `fault` in a frame is a reason that its reader already had."""

    table: pa.Table
    rows: npt.NDArray[np.int64]
    rejects: list[tuple[int, str]]


Rule = tuple[pl.Expr, str | pl.Expr]
"""What a bad row is true of, and the reason, which may quote the row."""


def clean_events(frame: pl.DataFrame) -> Cleaned:
    """Rows of `winnow.canonical.EVENTS`."""
    raw = with_columns(frame, EVENTS.names)
    ready = raw.with_columns(
        *(text(raw, name) for name in ("event_id", "type", "item_id", "user_id", "session_id", "request_id")),
        time(raw, "occurred_at"),
        number(raw, "value"),
        number(raw, "quantity"),
        number(raw, "position"),
        mapping(raw, "context"),
    )
    rules = [
        *id_rules("event_id"),
        *id_rules("item_id"),
        *id_rules("user_id", required=False),
        *id_rules("session_id", required=False),
        *id_rules("request_id", required=False),
        (pl.col("user_id").is_null() & pl.col("session_id").is_null(), "neither user_id nor session_id"),
        *time_rules(raw, "occurred_at", required=True),
        (pl.col("type").is_null(), "type is missing"),
        (~pl.col("type").is_in(TYPES), unknown("type", TYPES)),
        *number_rules(raw, "value", -1e9, 1e9),
        (pl.col("type").is_in(["cart", "purchase"]) & (pl.col("value") < 0), "negative price"),
        ((pl.col("type") == "rating") & pl.col("value").is_null(), "a rating without value"),
        *number_rules(raw, "quantity", 1, 1e6, whole=True),
        *number_rules(raw, "position", 1, 10_000, whole=True),
    ]
    return sorted_out(ready, raw, rules, EVENTS)


def clean_items(frame: pl.DataFrame) -> Cleaned:
    """Rows of `winnow.canonical.ITEMS`."""
    raw = with_images(with_columns(frame, ITEMS.names))
    ready = raw.with_columns(
        *(text(raw, name) for name in ("item_id", "title", "description", "brand", "currency", "image_url")),
        listing(raw, "categories"),
        number(raw, "price"),
        time(raw, "created_at"),
        boolean(raw, "available"),
        mapping(raw, "attributes"),
    )
    categories = pl.col("categories")
    rules = [
        *id_rules("item_id"),
        *number_rules(raw, "price", 0, 1e9),
        *time_rules(raw, "created_at"),
        *text_rules("title", 1_000),
        *text_rules("description", MAX_TEXT),
        *text_rules("brand", MAX_ID),
        *text_rules("image_url", 2_000),
        (pl.col("currency").is_not_null() & ~pl.col("currency").str.contains("^[A-Z]{3}$"), "currency is not ISO 4217"),
        (categories.list.len() > MAX_CATEGORIES, f"more than {MAX_CATEGORIES} categories"),
        (categories.list.eval(pl.element().str.len_chars()).list.max() > MAX_ID, "a category is too long"),
        (categories.list.eval(pl.element().str.contains(CONTROL)).list.any(), "a category has control characters"),
        (raw_given(raw, "available") & pl.col("available").is_null(), "available is neither true nor false"),
    ]
    return sorted_out(ready, raw, rules, ITEMS)


def clean_users(frame: pl.DataFrame) -> Cleaned:
    """Rows of `winnow.canonical.USERS`."""
    raw = with_columns(frame, USERS.names)
    ready = raw.with_columns(text(raw, "user_id"), mapping(raw, "traits"))
    return sorted_out(ready, raw, id_rules("user_id"), USERS)


# ---------------------------------------------------------------------------------------------- reading values


def with_columns(frame: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """The frame with every canonical column and `fault`, null where the source has none."""
    absent = [name for name in (*names, "fault") if name not in frame.columns]
    return frame.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)


def text(raw: pl.DataFrame, name: str) -> pl.Expr:
    """As text without surrounding blanks; empty means missing."""
    found = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(found != "").then(found).alias(name)


def number(raw: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    found = column.str.strip_chars() if raw.schema[name] == pl.String else column
    return found.cast(pl.Float64, strict=False).alias(name)


def boolean(raw: pl.DataFrame, name: str) -> pl.Expr:
    if raw.schema[name] == pl.Boolean:
        return pl.col(name)
    words = pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase()
    yes, no = words.is_in(["true", "1", "yes"]), words.is_in(["false", "0", "no"])
    return pl.when(yes).then(pl.lit(True)).when(no).then(pl.lit(False)).alias(name)


def time(raw: pl.DataFrame, name: str) -> pl.Expr:
    """Time stamps of any kind as UTC: ISO 8601 text (UTC where it names no zone), or seconds since 1970 (milli- and
    microseconds are told by their size)."""
    kind, column = raw.schema[name], pl.col(name)
    if isinstance(kind, pl.Datetime):
        zoned = column.dt.convert_time_zone("UTC") if kind.time_zone else column.dt.replace_time_zone("UTC")
        return zoned.cast(TIME).alias(name)
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias(name)
    if kind != pl.String:
        return instant(column.cast(pl.Float64, strict=False)).alias(name)
    stripped = column.str.strip_chars()
    seconds = instant(stripped.cast(pl.Float64, strict=False))
    zone = stripped.str.contains(r"(Z|[+-]\d\d:?\d\d)$")
    plain = pl.when(zone).then(stripped).otherwise(stripped + "Z")
    days = stripped.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us").dt.replace_time_zone("UTC")
    shapes = [
        plain.str.replace(" ", "T").str.to_datetime(shape, strict=False, time_unit="us", time_zone="UTC")
        for shape in ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")
    ]
    return pl.coalesce(seconds, *shapes, days).alias(name)


def instant(found: pl.Expr) -> pl.Expr:
    """Seconds, milliseconds or microseconds since 1970 as a time."""
    micro = pl.when(found.abs() < 1e11).then(found * 1e6).when(found.abs() < 1e14).then(found * 1e3).otherwise(found)
    fits = micro.is_finite() & micro.is_between(0, SECONDS_UNTIL_2200 * 1e6)
    return pl.when(fits).then(micro).round(0).cast(pl.Int64).cast(TIME)


def listing(raw: pl.DataFrame, name: str) -> pl.Expr:
    """A list of distinct texts; one text is cut at `LISTS`."""
    column = pl.col(name)
    found = column if isinstance(raw.schema[name], pl.List) else column.cast(pl.String).str.split(LISTS)
    tidy = found.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars())
    kept = tidy.list.eval(pl.element().filter(pl.element().is_not_null() & (pl.element() != "")))
    return kept.list.unique(maintain_order=True).fill_null([]).alias(name)


def mapping(raw: pl.DataFrame, name: str) -> pl.Expr:
    """Columns `name.key` as the entries of one map; blank values and values that no store can carry are left out."""
    entries = []
    for column in [c for c in raw.columns if c.startswith(f"{name}.")][:MAX_ATTRIBUTES]:
        value = pl.col(column).cast(pl.String).str.strip_chars().str.slice(0, MAX_ATTRIBUTE)
        good = value.is_not_null() & (value != "") & ~value.str.contains(CONTROL)
        entry = pl.struct(pl.lit(column.removeprefix(f"{name}.")).alias("key"), value.alias("value"))
        entries.append(pl.when(good).then(entry))
    if not entries:
        return pl.lit(None, pl.List(pl.Struct({"key": pl.String, "value": pl.String}))).alias(name)
    return pl.concat_list(entries).list.drop_nulls().alias(name)


# ---------------------------------------------------------------------------------------------- rules


def raw_given(raw: pl.DataFrame, name: str) -> pl.Expr:
    """Whether the source says something in this column."""
    given = pl.col(f"raw.{name}").is_not_null()
    return given & (pl.col(f"raw.{name}").str.strip_chars() != "") if raw.schema[name] == pl.String else given


def id_rules(name: str, *, required: bool = True) -> list[Rule]:
    missing = [(pl.col(name).is_null(), f"{name} is missing")] if required else []
    return [*missing, *text_rules(name, MAX_ID)]


def text_rules(name: str, limit: int) -> list[Rule]:
    return [
        (pl.col(name).str.len_chars() > limit, f"{name} has more than {limit} characters"),
        (pl.col(name).str.contains(CONTROL), f"{name} has control characters"),
    ]


def number_rules(raw: pl.DataFrame, name: str, low: float, high: float, *, whole: bool = False) -> list[Rule]:
    column = pl.col(name)
    rules: list[Rule] = [
        (raw_given(raw, name) & column.is_null(), f"{name} is not a number"),
        (~column.is_finite(), f"{name} is not finite"),
        (column < low, f"negative {name}" if low == 0 else f"{name} is below {low:g}"),
        (column > high, f"{name} is above {high:g}"),
    ]
    return [*rules, (column != column.floor(), f"{name} is not whole")] if whole else rules


def time_rules(raw: pl.DataFrame, name: str, *, required: bool = False) -> list[Rule]:
    year = pl.col(name).dt.year()
    missing = [(~raw_given(raw, name), f"{name} is missing")] if required else []
    unreadable = (raw_given(raw, name) & pl.col(name).is_null(), f"{name} cannot be read as a time")
    return [*missing, unreadable, (~year.is_between(1970, 2199), f"{name} is not between 1970 and 2200")]


def unknown(name: str, known: list[str]) -> pl.Expr:
    """The reason that names a value which is none of the known ones."""
    value = pl.col(name).str.replace_all(r"[\x00-\x1f\x7f]+", " ")  # a reason is one line
    shown = pl.when(value.str.len_chars() > MAX_QUOTED).then(value.str.slice(0, MAX_QUOTED) + "…").otherwise(value)
    return pl.format(f"{name} '{{}}' is unknown; known are {', '.join(known)}", shown)


def sorted_out(ready: pl.DataFrame, raw: pl.DataFrame, rules: list[Rule], schema: pa.Schema) -> Cleaned:
    """Split `ready` by the rules; `raw.x` are the values as the source had them."""
    kept = raw.select(pl.all().name.prefix("raw."))
    first = pl.coalesce(*(pl.when(broken).then(pl.lit(n, pl.UInt8)) for n, (broken, _) in enumerate(rules)))
    judged = pl.concat([ready, kept], how="horizontal").with_columns(first.alias("broken"))
    faulty = pl.col("fault").is_not_null() | pl.col("broken").is_not_null()
    whys = (why if isinstance(why, pl.Expr) else pl.lit(why) for _, why in rules)
    reason = pl.coalesce("fault", *(pl.when(pl.col("broken") == n).then(why) for n, why in enumerate(whys)))
    bad = judged.filter(faulty).select("row", reason.alias("reason"))
    good = judged.filter(~faulty)
    return Cleaned(canonical(good.select(schema.names), schema), good["row"].to_numpy(), list(bad.iter_rows()))


def canonical(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame as an Arrow table of exactly this schema."""
    found = frame.to_arrow()
    columns = [as_type(found[field.name].combine_chunks(), field.type) for field in schema]
    return pa.table(columns, schema=schema)


def as_type(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_map(kind):
        return column.cast(kind)
    lists = column.cast(pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())])))
    entries = lists.flatten()
    keys, items = entries.field("key"), entries.field("value")
    offsets = pa.array([0, *lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).cumsum()], pa.int32())
    return pa.MapArray.from_arrays(offsets, keys, items)
