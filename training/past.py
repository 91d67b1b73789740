"""A home as it was known at a moment: no act of later, no item that nobody had heard of, no price that was yet to be paid.

Where the log holds purchases, prices come from it: what a set's catalogue says of a price is often a figure over all of
its time. A title and a trait are taken for what they always were; whether a set's catalogue says more that is of later
is not known here.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from training.dataset import Dataset, dataset_of, items_in, traits_in
from training.ingest import summary_of
from winnow import segments
from winnow.acts import COLUMNS, times
from winnow.canonical import EVENTS, ITEMS, USERS
from winnow.errors import FailedPrecondition
from winnow.home import events_folder, items_folder, users_folder
from winnow.types import EARLIEST, Item

Times = npt.NDArray[np.float64]  # seconds since 1970


class Past:
    """All moments of one home; FailedPrecondition where its times are synthetic, or nothing is there."""

    def __init__(self, home: Path) -> None:
        about = summary_of(home)
        if about is None:
            raise FailedPrecondition(f"{home.name} holds no data set; run the ingestion first")
        if about.clock != "real":
            raise FailedPrecondition(f"{about.name} knows the order of its acts but not their times")
        self._about = about
        self._events: pa.Table = segments.whole(events_folder(home), EVENTS, COLUMNS)
        self._at: Times = times(self._events["occurred_at"])
        self._items = items_in(segments.whole(items_folder(home), ITEMS))
        self._traits = traits_in(segments.whole(users_folder(home), USERS))

    @cached_property
    def whole(self) -> Dataset:
        """All that was ever known."""
        return dataset_of(self._about, self._items, self._events, self._traits)

    def until(self, moment: float) -> Dataset:
        """What was known when everything before `moment` had happened, in seconds since 1970."""
        items = {item.item_id: item for item in self.items(moment)}
        events = self._events.filter(pa.array(self._at < moment))
        return dataset_of(self._about, items, events, self._traits)

    def items(self, moment: float, besides: Container[str] = ()) -> list[Item]:
        """The items known at a moment, as they were then, without those of `besides`."""
        known = [item for item_id, item in self._items.items() if item_id not in besides and self._since(item) < moment]
        if not self._purchases.height:
            return known
        paid = self._paid(moment)
        return [replace(item, price=paid.get(item.item_id)) for item in known]

    def _since(self, item: Item) -> float:
        """When an item came; where it does not say, its first event."""
        if item.created_at > EARLIEST:
            return item.created_at.timestamp()
        return self._first_named.get(item.item_id, np.inf)

    def _paid(self, moment: float) -> Mapping[str, float]:
        """The median of what was paid for an item before a moment."""
        paid = self._purchases.filter(pl.col("at") < moment).group_by("item_id").agg(pl.col("value").median())
        return dict(paid.iter_rows())

    @cached_property
    def _purchases(self) -> pl.DataFrame:
        return self._frame.filter((pl.col("type") == "purchase") & pl.col("value").is_not_null())

    @cached_property
    def _first_named(self) -> Mapping[str, float]:
        return dict(self._frame.group_by("item_id").agg(pl.col("at").min()).iter_rows())

    @cached_property
    def _frame(self) -> pl.DataFrame:
        columns = pl.from_arrow(self._events.select(["item_id", "type", "value"]))
        assert isinstance(columns, pl.DataFrame)
        return columns.with_columns(pl.Series("at", self._at))
