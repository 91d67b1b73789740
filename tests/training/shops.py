"""A shop whose past is easily told from its future: prices rise every month, and new things come every month."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from training.data.source import Source, one
from training.ingest import ingest_source

MONTHS = tuple(datetime(2025, month, 1, tzinfo=UTC).timestamp() for month in range(1, 6))
PER_MONTH = 12  # things that come at the start of each month
BASKET = 3


def price(thing: int, month: int) -> float:
    return 1.0 + thing + 100.0 * month


def shop(home: Path, people: int = 30, baskets: int = 6, seed: int = 0, plant: float = np.inf) -> Path:
    """A home with `baskets` of each person in each month, of things of that month or before, whose number has the
    person's parity. From `plant` on everything is otherwise: other things, at other prices, and things never seen."""
    rows = [row for month in range(len(MONTHS) - 1) for row in lines(month, people, baskets, seed)]
    rows = [planted(row) if row["occurred_at"] >= plant else row for row in rows]
    events = pl.DataFrame(sorted(rows, key=lambda row: row["occurred_at"]))
    events = events.with_columns(pl.format("e{}", pl.int_range(pl.len())).alias("event_id"), type=pl.lit("purchase"))
    things = np.arange((len(MONTHS) - 1) * PER_MONTH)
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in things],
            "title": [f"Thing {n}" for n in things],
            "price": [price(n, 99) for n in things],  # of all times: what no replay may know
            "created_at": [MONTHS[n // PER_MONTH] for n in things],
        }
    )
    traits = pl.DataFrame({"user_id": [f"u{n}" for n in range(people)], "traits.country": "GB"})
    frames = {"events": events, "items": items, "users": traits}

    def give(name: str) -> Iterator[pl.DataFrame]:
        return one(frames[name])

    source = Source("shop", "real", "time", 4.0, f"{seed} {plant}", *(lambda n=n: give(n) for n in frames))
    ingest_source(source, home)
    return home


def lines(month: int, people: int, baskets: int, seed: int) -> Iterator[dict[str, object]]:
    """The purchases of a month; those of one basket share their time."""
    rng = np.random.default_rng((seed, month))
    for person in range(people):
        for moment in rng.uniform(MONTHS[month] + 3600, MONTHS[month + 1] - 3600, baskets).round():
            things = rng.choice((month + 1) * PER_MONTH // 2, BASKET, replace=False) * 2 + person % 2
            for thing in things.tolist():
                paid = price(thing, month)
                yield {"user_id": f"u{person}", "item_id": f"i{thing}", "value": paid, "occurred_at": float(moment)}


def planted(row: dict[str, object]) -> dict[str, object]:
    return row | {"item_id": f"planted-{row['item_id']}", "value": 7.0}
