"""Views as the matrices that models read: vocabularies, scales, and the schema that names the features in order.

Row 0 of a vocabulary means "missing"; then come hash buckets for values never seen in training; then the known values.
What a feature is stands in `winnow.features`; nothing here knows models, storage or the wire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xxhash

from winnow.features import FEATURES, Feature, Ints, ItemView, UserView
from winnow.image_vectors import matrix
from winnow.types import Floats, Item, Vector

BUCKETS = 16  # hash buckets per vocabulary for values never seen in training


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


def tower_inputs(schema: Schema, items: Sequence[Item], image_width: int = 0) -> dict[str, npt.NDArray[Any]]:
    """What an item tower reads of n items: `ids` and `numbers`, and where it was trained with images `image` (n, W) float32,
    zeros where an item has none."""
    ids, numbers = schema.encode([ItemView(item) for item in items])
    inputs: dict[str, npt.NDArray[Any]] = {"ids": ids, "numbers": numbers}
    if image_width:
        inputs["image"] = matrix([item.image_vector for item in items], image_width).astype(np.float32)
    return inputs


def image_width(facts: Mapping[str, Any]) -> int:
    """Numbers of an image's vector that the item tower of a bundle with these facts reads; 0: it reads none."""
    return int(facts.get("image", {}).get("width", 0))


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
