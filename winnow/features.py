"""Every feature once: its name, its kind, its default, and how it is computed.

Training, serving and the feature store read this module, so there is one definition for batch and request. A bundle's
`Schema` names the features its models read, in order, with their vocabularies and scales; `encode` turns views into
the two matrices a model takes. Row 0 of a vocabulary means "missing"; then come hash buckets for values never seen
in training; then the known values.

A feature sees only its view: an item view (`ItemView`) or a user view (`UserView`), built from what was known at the
moment of the request. Nothing here knows models, storage or the wire.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import xxhash

from winnow.types import Candidates, Context, Floats, Item, Strings, UserState, Vector

Ints = npt.NDArray[np.int64]

BUCKETS = 16  # hash buckets per vocabulary for values never seen in training
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


# ---------------------------------------------------------------------------------------------- encoding


class Vocabulary:
    """Values to rows: 0 missing, then `buckets` hash buckets, then the known values in the order given."""

    def __init__(self, name: str, values: Sequence[str], buckets: int = BUCKETS) -> None:
        self.name = name
        self.values = tuple(values)
        self.buckets = buckets
        self._row = {value: 1 + buckets + n for n, value in enumerate(self.values)}
        if len(self._row) != len(self.values):
            raise ValueError(f"vocabulary {name} lists a value twice")
        self._seed = xxhash.xxh32_intdigest(name.encode())

    def __len__(self) -> int:
        """Rows of a table indexed by this vocabulary."""
        return 1 + self.buckets + len(self.values)

    def bucket(self, value: str) -> int:
        """The hash bucket that `value` falls into when it is not known."""
        return 1 + xxhash.xxh32_intdigest(value.encode(), self._seed) % self.buckets

    def row(self, value: str) -> int:
        if not value:
            return 0
        row = self._row.get(value)
        return self.bucket(value) if row is None else row

    def to_json(self) -> dict[str, Any]:
        return {"buckets": self.buckets, "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class Scale:
    """A number enters a model as (x - mean) / std; a missing one (NaN) as 0."""

    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True, slots=True)
class Values:
    """What the features of one view are, before vocabularies and scales, in a schema's order: of each categorical
    feature its value or values, and the numbers."""

    texts: list[str | Sequence[str]]
    numbers: list[float]


@dataclass(frozen=True)
class Schema:
    """The features that one model input reads, in order, with vocabularies and scales.

    `ids` columns come first by feature then by slot; `numbers` columns by feature.
    """

    names: tuple[str, ...]
    vocabularies: Mapping[str, Vocabulary]
    scales: Mapping[str, Scale] = field(default_factory=dict)

    @cached_property
    def categorical(self) -> tuple[Feature, ...]:
        return tuple(FEATURES[n] for n in self.names if FEATURES[n].kind != "number")

    @cached_property
    def numeric(self) -> tuple[Feature, ...]:
        return tuple(FEATURES[n] for n in self.names if FEATURES[n].kind == "number")

    @cached_property
    def width(self) -> int:
        """Columns of the id matrix."""
        return sum(f.slots for f in self.categorical)

    @cached_property
    def _scaling(self) -> tuple[npt.NDArray[np.float64], ...]:
        """Mean, standard deviation and default of each number."""
        scales = [self.scales.get(feature.name, Scale()) for feature in self.numeric]
        rows = ([s.mean for s in scales], [s.std for s in scales], [feature.default for feature in self.numeric])
        return tuple(np.asarray(row, np.float64) for row in rows)

    def encode(self, views: Sequence[Any]) -> tuple[Ints, Floats]:
        """Views to (n, width) int64 vocabulary rows and (n, len(numeric)) float32 scaled numbers."""
        return self.encode_values(map(self.values, views), len(views))

    def values(self, view: Any) -> Values:
        """What `encode` would look up and scale."""
        return Values(
            [feature.compute(view) for feature in self.categorical], [feature.compute(view) for feature in self.numeric]
        )

    def encode_values(self, several: Iterable[Values], n: int) -> tuple[Ints, Floats]:
        """As `encode`, of the values of `n` views."""
        ids = np.zeros((n, self.width), np.int64)
        raw = np.empty((n, len(self.numeric)), np.float64)
        for row, values in enumerate(several):
            ids[row] = self._rows(values.texts)
            raw[row] = values.numbers
        if not self.numeric:
            return ids, raw.astype(np.float32)
        mean, std, default = self._scaling
        scaled = (raw - mean) / std
        numbers = np.where(np.isnan(scaled), default, scaled).astype(np.float32)
        return ids, numbers

    def vector(self, values: Values, catalogue: int) -> Vector:
        """The values by name; what they say of items was read when the catalogue was complete up to that position."""
        texts = zip(self.categorical, values.texts, strict=True)
        numbers = zip(self.numeric, values.numbers, strict=True)
        return Vector(
            {feature.name: (text,) if isinstance(text, str) else tuple(text) for feature, text in texts},
            {feature.name: float(number) for feature, number in numbers},
            catalogue,
        )

    def _rows(self, texts: Sequence[str | Sequence[str]]) -> list[int]:
        """Vocabulary rows of one view, slot by slot."""
        found: list[int] = []
        for feature, row_of, text in zip(self.categorical, self._look_up, texts, strict=True):
            if feature.slots == 1:
                found.append(row_of(text))  # type: ignore[arg-type]  # one slot: one text
            else:
                rows = [row_of(one) for one in text[: feature.slots]]
                found += rows + [0] * (feature.slots - len(rows))
        return found

    @cached_property
    def _look_up(self) -> tuple[Callable[[str], int], ...]:
        """How each categorical feature's values become rows."""
        return tuple(self.vocabularies[feature.vocabulary].row for feature in self.categorical)

    def to_json(self) -> dict[str, Any]:
        """Names and scales; vocabularies are saved once per bundle, apart."""
        return {
            "names": list(self.names),
            "scales": {name: [scale.mean, scale.std] for name, scale in self.scales.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], vocabularies: Mapping[str, Vocabulary]) -> Self:
        """Raises KeyError for a feature or vocabulary that this release does not know."""
        names = tuple(document["names"])
        for name in names:
            needed = FEATURES[name].vocabulary
            if needed and needed not in vocabularies:
                raise KeyError(f"vocabulary {needed} of feature {name}")
        scales = {name: Scale(*pair) for name, pair in document["scales"].items()}
        return cls(names, vocabularies, scales)


def fit_vocabularies(
    names: Iterable[str],
    item_views: Sequence[ItemView],
    user_views: Iterable[UserView],
    *,
    buckets: Mapping[str, int] | None = None,
    at_least: int = 1,
) -> dict[str, Vocabulary]:
    """Vocabularies of the named features from training views; values seen fewer than `at_least` times stay unknown."""
    features = [FEATURES[n] for n in names if FEATURES[n].vocabulary]
    counts: dict[str, Counter[str]] = {f.vocabulary: Counter() for f in features}
    for feature in features:
        if feature.of == "item":
            _count(counts[feature.vocabulary], feature, item_views)
    of_user = [f for f in features if f.of == "user" and f.vocabulary != "item_id"]
    for view in user_views:
        for feature in of_user:
            _count(counts[feature.vocabulary], feature, (view,))
    return {
        name: Vocabulary(
            name, sorted(v for v, n in counter.items() if v and n >= at_least), (buckets or {}).get(name, BUCKETS)
        )
        for name, counter in sorted(counts.items())
    }


def _count(counter: Counter[str], feature: Feature, views: Iterable[Any]) -> None:
    for view in views:
        value = feature.compute(view)
        counter.update((value,) if feature.slots == 1 else value[: feature.slots])


def fit_scales(names: Iterable[str], views: Sequence[Any], of: str) -> dict[str, Scale]:
    """Mean and standard deviation of each number over training views; a constant number keeps std 1."""
    scales = {}
    for name in names:
        feature = FEATURES[name]
        if feature.kind != "number" or feature.of != of:
            continue
        raw = np.fromiter((feature.compute(view) for view in views), np.float64, count=len(views))
        raw = raw[~np.isnan(raw)]
        std = float(raw.std()) if len(raw) else 0.0
        scales[name] = Scale(float(raw.mean()) if len(raw) else 0.0, std if std > 1e-6 else 1.0)
    return scales


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


# ---------------------------------------------------------------------------------------------- candidates


ACTED = ("acted:count", "acted:order", "acted:days")
"""What this person did with the candidate before: how often among the acts of the history, how many other items ago, and how
long ago; the last needs a real clock."""


def candidate_names(source_names: Sequence[str], acted: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of `candidate_numbers` for these sources; a ranking bundle records the ones it was trained on.
    `acted` are those of `ACTED` that say something, which needs people who act on the same things again."""
    return ("log_rank", *(f"score:{s}" for s in source_names), *(f"from:{s}" for s in source_names), *acted)


@lru_cache(maxsize=64)
def names_of(source_names: tuple[str, ...]) -> tuple[str, ...]:
    """`candidate_names`, remembered."""
    return candidate_names(source_names)


@lru_cache(maxsize=64)
def log_ranks(n: int) -> Floats:
    """(n,) log(1 + place), read-only."""
    ranks = np.log1p(np.arange(n, dtype=np.float32))
    ranks.flags.writeable = False
    return ranks


def candidate_numbers(candidates: Candidates, names: Sequence[str], view: UserView) -> Floats:
    """(n, len(names)) float32, raw (the model scales them): place in retrieval's order, scores and origin per source,
    and what the person of `view` did with the candidate before.

    A source that the candidates do not know is 0 throughout, so a ranker outlives a change of sources.
    """
    column_of = {name: n for n, name in enumerate(candidates.source_names)}
    numbers = np.zeros((len(candidates), len(names)), np.float32)
    block, sources = names_of(candidates.source_names), len(column_of)
    filled = len(block) if names[: len(block)] == block else 0
    if filled:  # trained on these sources: their columns lie as the candidates' own
        numbers[:, 0] = log_ranks(len(candidates))
        numbers[:, 1 : 1 + sources] = candidates.scores
        numbers[:, 1 + sources : filled] = candidates.sources[:, None] >> np.arange(sources, dtype=np.uint32) & 1
    acted = acted_numbers(candidates.item_ids, view) if any(name in ACTED for name in names) else {}
    for n, name in enumerate(names[filled:], filled):
        kind, _, source = name.partition(":")
        if name in ACTED:
            numbers[:, n] = acted[name]
        elif kind == "log_rank":
            numbers[:, n] = log_ranks(len(candidates))
        elif source in column_of:
            column = column_of[source]
            numbers[:, n] = candidates.scores[:, column] if kind == "score" else candidates.sources >> column & 1
    return numbers


def acted_numbers(item_ids: Strings, view: UserView) -> dict[str, Floats]:
    """The columns `ACTED` (n,) float32 of some items; 0 of one that the person did not act on, or longer ago than the state
    knows: `HISTORY` acts for the count and the days, `winnow.seen.EXACT` items for the order."""
    found = {name: np.zeros(len(item_ids), np.float32) for name in ACTED}
    row_of = {item_id: row for row, item_id in enumerate(item_ids.tolist())}
    seen = [row_of.get(item_id, -1) for item_id in reversed(view.state.seen.tolist())]
    for ago, row in enumerate(seen):
        if row >= 0:
            found["acted:order"][row] = recency(ago)
    history = view.state.history
    for item_id, at in zip(history.item_ids.tolist(), history.at.tolist(), strict=True):  # oldest first
        row = row_of.get(item_id, -1)
        if row >= 0:
            found["acted:count"][row] += 1.0
            found["acted:days"][row] = recency(max(view.at - at, 0.0) / DAY_S)
    found["acted:count"] = np.log1p(found["acted:count"])
    return found


def recency(ago: float) -> float:
    """1 for now, falling slowly, never 0: how long ago something was that may also never have been."""
    return 1.0 / (1.0 + math.log1p(ago))


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
    return xxhash.xxh3_64_intdigest("\x1e".join(parts).encode())
