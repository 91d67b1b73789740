"""Every feature once: its name, its kind, its default, and how it is computed.

Training, serving and the feature store read this module, so there is one definition for batch and request. How values
become the matrices of a model is `winnow.encoding`'s; what a ranker reads of candidates, `winnow.candidate_features`'.

A feature sees only its view: an item view (`ItemView`) or a user view (`UserView`), built from what was known at the
moment of the request. Nothing here knows models, storage or the wire.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash

from winnow.types import Context, Floats, Item, UserState

Ints = npt.NDArray[np.int64]

TOKENS = 24  # words and attributes of an item that models read
CATEGORIES = 8  # categories of an item that models read
DAY_S = 86_400.0
HALF_LIFE_DAYS = 30.0  # of `recent`, the decayed popularity


# ---------------------------------------------------------------------------------------------- views


@dataclass(frozen=True, slots=True)
class ItemStats:
    """What the log says of one item up to a moment: acts on it, the same decayed, and its mean rating (NaN: none)."""

    count: float = 0.0
    recent: float = 0.0
    mean_value: float = math.nan


NO_STATS = ItemStats()


@dataclass(frozen=True, slots=True)
class ItemView:
    """One item as features see it. `at` is the moment of the statistics, seconds since 1970."""

    item: Item
    stats: ItemStats = NO_STATS
    at: float = 0.0


@dataclass(frozen=True)
class UserView:
    """One person at one moment as features see them. `item` finds the facts of items in their history."""

    state: UserState
    context: Context
    item: Callable[[str], Item | None]

    @cached_property
    def at(self) -> float:
        """The moment of the request, seconds since 1970; the newest event's time when the request names none."""
        if self.context.at is not None:
            return self.context.at.timestamp()
        return float(self.state.history.at[-1]) if len(self.state.history) else 0.0

    @cached_property
    def items(self) -> list[Item]:
        """Known items of the history, oldest first."""
        found = (self.item(i) for i in self.state.history.item_ids)
        return [item for item in found if item is not None]

    @cached_property
    def categories(self) -> list[tuple[str, int]]:
        """Categories of the history, most frequent first (ties by name, so that every side agrees)."""
        return most_first(Counter(chain.from_iterable([item.categories for item in self.items])))

    @cached_property
    def brands(self) -> list[tuple[str, int]]:
        return most_first(Counter([item.brand for item in self.items if item.brand]))

    @cached_property
    def log_prices(self) -> list[float]:
        return [math.log1p(item.price) for item in self.items if item.price is not None]

    @cached_property
    def values(self) -> Floats:
        values = self.state.history.values
        return values[~np.isnan(values)]

    def trait(self, name: str) -> str:
        return self.state.traits.get(name, "")

    def last(self, n: int) -> str:
        """The id of the n-th newest item of the history (1 = newest), or nothing."""
        ids = self.state.history.item_ids
        return str(ids[-n]) if len(ids) >= n else ""

    def moment(self) -> datetime | None:
        return datetime.fromtimestamp(self.at, UTC) if self.at else None


def most_first(counts: Counter[str]) -> list[tuple[str, int]]:
    """Most frequent first, equals by name: two sorts that never call back are faster than one by a pair."""
    return sorted(sorted(counts.items()), key=itemgetter(1), reverse=True)


# ---------------------------------------------------------------------------------------------- declarations


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature. `kind` says what `compute` returns: one value, up to `slots` values, or a number.

    `vocabulary` is the table that categorical values are looked up in; features may share one.
    """

    name: str
    of: Literal["item", "user", "candidate"]
    kind: Literal["category", "categories", "number"]
    compute: Callable[[Any], Any]
    vocabulary: str = ""
    slots: int = 1
    default: float = 0.0  # of numbers; the default of a category is "missing"


FEATURES: dict[str, Feature] = {}


def declare(
    name: str,
    of: Literal["item", "user", "candidate"],
    compute: Callable[[Any], Any],
    *,
    vocabulary: str = "",
    slots: int = 1,
    default: float = 0.0,
) -> None:
    kind: Literal["category", "categories", "number"] = (
        "number" if not vocabulary else "category" if slots == 1 else "categories"
    )
    if name in FEATURES:
        raise ValueError(f"feature {name} is declared twice")
    FEATURES[name] = Feature(name, of, kind, compute, vocabulary, slots, default)


def nth(values: Sequence[Any], n: int) -> Any:
    return values[n] if len(values) > n else ""


def band(value: float | None, base: float) -> str:
    """A logarithmic band: powers of `base`, as a category."""
    return "" if value is None or math.isnan(value) else str(math.floor(math.log(1.0 + max(value, 0.0), base)))


WORD = re.compile(r"[^\W_]+", re.UNICODE)


def words(text: str) -> list[str]:
    """Lower-case words of a text, in order."""
    return WORD.findall(text.lower())


def tokens(item: Item) -> list[str]:
    """What an item says of itself: title words, then its attributes as `name=value`, then its description's words."""
    own = words(item.title) + [f"{name}={value}" for name, value in sorted(item.attributes.items())]
    return list(dict.fromkeys(own + words(item.description)))[:TOKENS]


def era(view: ItemView) -> str:
    """The decade of the item: its `year` attribute, else the year it entered the catalogue."""
    year = view.item.attributes.get("year", "")
    number = int(year) if year.isdigit() and len(year) == 4 else view.item.created_at.year
    return "" if number <= 1970 and not year else str(number // 10 * 10)


def share(view: UserView, kind: str) -> float:
    types = view.state.history.types.tolist()
    return types.count(kind) / len(types) if types else 0.0


def days_since_last(view: UserView) -> float:
    history = view.state.history
    return math.log1p(max(view.at - float(history.at[-1]), 0.0) / DAY_S) if len(history) else 0.0


# items: categorical
declare("item_id", "item", lambda v: v.item.item_id, vocabulary="item_id")
declare("item_categories", "item", lambda v: v.item.categories, vocabulary="category", slots=CATEGORIES)
declare("item_tokens", "item", lambda v: tokens(v.item), vocabulary="token", slots=TOKENS)
declare("item_category_1", "item", lambda v: nth(v.item.categories, 0), vocabulary="category")
declare("item_category_2", "item", lambda v: nth(v.item.categories, 1), vocabulary="category")
declare("item_category_3", "item", lambda v: nth(v.item.categories, 2), vocabulary="category")
declare("item_brand", "item", lambda v: v.item.brand, vocabulary="brand")
declare("item_price_band", "item", lambda v: band(v.item.price, 1.5), vocabulary="price_band")
declare("item_era", "item", era, vocabulary="era")
declare("item_count_band", "item", lambda v: band(v.stats.count, 2.0), vocabulary="count_band")
declare("item_recent_band", "item", lambda v: band(v.stats.recent, 2.0), vocabulary="count_band")
declare(
    "item_value_band",
    "item",
    lambda v: "" if math.isnan(v.stats.mean_value) else f"{v.stats.mean_value:.1f}",
    vocabulary="value_band",
)
# items: numbers
declare("item_log_count", "item", lambda v: math.log1p(v.stats.count))
declare("item_log_recent", "item", lambda v: math.log1p(v.stats.recent))
declare("item_mean_value", "item", lambda v: v.stats.mean_value)
declare("item_log_price", "item", lambda v: math.nan if v.item.price is None else math.log1p(v.item.price))
declare("item_has_price", "item", lambda v: float(v.item.price is not None))
# people: categorical
declare("user_id", "user", lambda v: v.state.person.user_id, vocabulary="user_id")
declare("user_gender", "user", lambda v: v.trait("gender"), vocabulary="gender")
declare("user_age_group", "user", lambda v: v.trait("age_group"), vocabulary="age_group")
declare("user_occupation", "user", lambda v: v.trait("occupation"), vocabulary="occupation")
declare("user_language", "user", lambda v: v.trait("language"), vocabulary="language")
declare("user_country", "user", lambda v: v.context.country or v.trait("country"), vocabulary="country")
declare("context_surface", "user", lambda v: v.context.surface, vocabulary="surface")
declare("context_device", "user", lambda v: v.context.device, vocabulary="device")
declare("context_hour", "user", lambda v: str(m.hour) if (m := v.moment()) else "", vocabulary="hour")
declare("context_weekday", "user", lambda v: str(m.weekday()) if (m := v.moment()) else "", vocabulary="weekday")
declare("user_last_item_1", "user", lambda v: v.last(1), vocabulary="item_id")
declare("user_last_item_2", "user", lambda v: v.last(2), vocabulary="item_id")
declare("user_last_item_3", "user", lambda v: v.last(3), vocabulary="item_id")
declare("user_top_category", "user", lambda v: nth(v.categories, 0)[0] if v.categories else "", vocabulary="category")
declare(
    "user_second_category",
    "user",
    lambda v: v.categories[1][0] if len(v.categories) > 1 else "",
    vocabulary="category",
)
declare("user_top_brand", "user", lambda v: v.brands[0][0] if v.brands else "", vocabulary="brand")
# people: numbers
declare("user_log_events", "user", lambda v: math.log1p(v.state.events))
declare("user_history_length", "user", lambda v: float(len(v.state.history)))
declare("user_mean_value", "user", lambda v: float(v.values.mean()) if len(v.values) else math.nan)
declare("user_last_value", "user", lambda v: float(v.values[-1]) if len(v.values) else math.nan)
declare("user_mean_log_price", "user", lambda v: sum(v.log_prices) / len(v.log_prices) if v.log_prices else math.nan)
declare("user_purchase_share", "user", lambda v: share(v, "purchase"))
declare("user_rating_share", "user", lambda v: share(v, "rating"))
declare("user_log_days_since_last", "user", days_since_last)

ITEM_TOWER = ("item_id", "item_categories", "item_tokens", "item_brand", "item_log_price", "item_has_price")
USER_TOWER = (
    "user_id",
    "user_gender",
    "user_age_group",
    "user_occupation",
    "user_language",
    "user_country",
    "context_surface",
    "context_device",
    "context_hour",
    "context_weekday",
)
RANKER_ITEM = (
    "item_id",
    "item_category_1",
    "item_category_2",
    "item_category_3",
    "item_brand",
    "item_price_band",
    "item_era",
    "item_count_band",
    "item_recent_band",
    "item_value_band",
    "item_log_count",
    "item_log_recent",
    "item_mean_value",
    "item_log_price",
    "item_has_price",
)
RANKER_USER = tuple(name for name, feature in FEATURES.items() if feature.of == "user")
CLOCK = frozenset({"context_hour", "context_weekday", "user_log_days_since_last", "acted:days"})
"""Features that need a real clock; left out of the schema for data sets that know only an order."""


# ---------------------------------------------------------------------------------------------- of items


def item_stats(
    item_rows: Ints, at: npt.NDArray[np.float64], values: Floats, n_items: int, now: float
) -> dict[str, npt.NDArray[np.float64]]:
    """Statistics per item row from the acts up to `now` (seconds since 1970): columns of `ItemStats`.

    `item_rows`, `at` and `values` are one act each; `values` holds ratings and NaN elsewhere.
    """
    known = at <= now
    rows, when, rated = item_rows[known], at[known], values[known]
    decay = np.exp2(-(now - when) / (HALF_LIFE_DAYS * DAY_S))
    has = ~np.isnan(rated)
    number = np.bincount(rows[has], minlength=n_items).astype(np.float64)
    total = np.bincount(rows[has], weights=rated[has].astype(np.float64), minlength=n_items)
    with np.errstate(invalid="ignore"):
        mean = np.where(number > 0, total / number, np.nan)
    return {
        "count": np.bincount(rows, minlength=n_items).astype(np.float64),
        "recent": np.bincount(rows, weights=decay, minlength=n_items),
        "mean_value": mean,
    }


def item_digest(item: Item) -> int:
    """64 bits of an item's content: a table computed for other content must be computed again."""
    parts = (
        item.item_id,
        item.title,
        item.description,
        "\x1f".join(item.categories),
        item.brand,
        repr(item.price),
        item.created_at.isoformat(),
        "\x1f".join(f"{k}={v}" for k, v in sorted(item.attributes.items())),
    )
    image = b"\x1e" + item.image_vector if item.image_vector else b""  # so that others keep the digest they had
    return xxhash.xxh3_64_intdigest("\x1e".join(parts).encode() + image)
