"""The words of the platform: events, items, people, candidates, slates, answers.

Every type validates itself, because neither proto3 nor JSON can tell a missing number from zero: both faces and both
wirings then refuse the same thing with the same words. Candidates are columns, not objects: a mask filters them, an
order sorts them, a slice cuts them. Nothing here knows protobuf, HTTP or a storage format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from winnow.errors import InvalidArgument
from winnow.image_vectors import check_kept

Strings = npt.NDArray[np.object_]
"""A column of `str` (numpy object array): fancy-indexes like the number columns beside it."""
Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint32]
Directions = npt.NDArray[np.int8]
"""(n, d): where vectors point (`winnow.directions`). A row of zeros: nobody knows."""

MAX_ID = 256  # characters of any identifier
MAX_TEXT = 20_000  # characters of a description
MAX_CATEGORIES = 64
MAX_ATTRIBUTES = 64
MAX_QUERY = 1_000  # characters of a free-text query
MAX_N = 100  # items in one answer
MAX_USERS = 100  # people in one batch
MAX_EVENTS = 1_000  # events in one call
MAX_ITEMS = 1_000  # items in one call
MAX_EXCLUDE = 10_000  # ids in `exclude`
HISTORY = 50  # events of history that models read

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def strings(values: Sequence[str]) -> Strings:
    """A column of strings; `np.array(list_of_str)` would cut or pad to a fixed width."""
    column = np.empty(len(values), dtype=object)
    column[:] = values if isinstance(values, list | np.ndarray) else list(values)  # numpy reads a list fastest
    return column


class EventType(StrEnum):
    """What a person did. Only `impression` is not an act of theirs: it neither enters the history nor marks as seen."""

    IMPRESSION = "impression"
    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"
    RATING = "rating"
    DISMISS = "dismiss"


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: a user, an anonymous session, or a session whose user is known (both set)."""

    user_id: str = ""
    session_id: str = ""

    def __post_init__(self) -> None:
        check_id(self.user_id, "user_id", required=False)
        check_id(self.session_id, "session_id", required=False)
        if not (self.user_id or self.session_id):
            raise InvalidArgument("give a user_id or a session_id", field="user_id")


@dataclass(frozen=True, slots=True)
class Context:
    """The circumstances of one request. `at` is when it happens (UTC); None means now, resolved by the gateway."""

    surface: str = ""
    device: str = ""
    country: str = ""
    at: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("surface", "device", "country"):
            check_id(getattr(self, name), f"context.{name}", required=False)
        if self.at is not None:
            check_time(self.at, "context.at")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened (architecture §3). `event_id` is made by the client: sending it twice counts once.

    `value` is the rating for ratings and the unit price for carts and purchases; None when there is none.
    `position` is the 1-based place on the page; None when unknown.
    """

    event_id: str
    type: EventType
    item_id: str
    occurred_at: datetime
    user_id: str = ""
    session_id: str = ""
    value: float | None = None
    quantity: int = 1
    request_id: str = ""
    position: int | None = None
    context: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_id(self.event_id, "event_id")
        check_id(self.item_id, "item_id")
        check_id(self.user_id, "user_id", required=False)
        check_id(self.session_id, "session_id", required=False)
        check_id(self.request_id, "request_id", required=False)
        if not (self.user_id or self.session_id):
            raise InvalidArgument("give a user_id or a session_id", field="user_id")
        check_time(self.occurred_at, "occurred_at")
        check_number(self.value, "value", low=-1e9, high=1e9)
        if self.type is EventType.RATING and self.value is None:
            raise InvalidArgument("a rating needs a value", field="value")
        if not 0 < self.quantity <= 1_000_000:
            raise InvalidArgument("must be between 1 and 1000000", field="quantity")
        if self.position is not None and not 1 <= self.position <= 10_000:
            raise InvalidArgument("must be between 1 and 10000", field="position")
        check_map(self.context, "context")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be recommended (architecture §3). `price` is in `currency`; None when it has none.
    `image_vector` is what its image looks like (`winnow.image_vectors.packed`): for who finds items, not for answers."""

    item_id: str
    title: str = ""
    description: str = ""
    categories: tuple[str, ...] = ()
    brand: str = ""
    price: float | None = None
    currency: str = ""
    image_url: str = ""
    created_at: datetime = EARLIEST
    available: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict)
    image_vector: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        check_id(self.item_id, "item_id")
        for name, limit in (("title", 1_000), ("description", MAX_TEXT), ("brand", MAX_ID), ("image_url", 2_000)):
            check_text(getattr(self, name), name, limit)
        if self.currency and not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isupper()):
            raise InvalidArgument("must be three capital letters (ISO 4217)", field="currency")
        if len(self.categories) > MAX_CATEGORIES:
            raise InvalidArgument(f"at most {MAX_CATEGORIES} categories", field="categories")
        for n, category in enumerate(self.categories):
            check_id(category, f"categories[{n}]")
        check_number(self.price, "price", low=0, high=1e9)
        check_time(self.created_at, "created_at")
        check_map(self.attributes, "attributes")
        if self.image_vector != b"":
            check_kept(self.image_vector)

    def without_image(self) -> Item:
        """The same for those who do not look at images."""
        return replace(self, image_vector=b"") if self.image_vector else self


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What a person did, as columns of equal length, oldest first; the last `HISTORY` acts at most."""

    item_ids: Strings
    types: Strings  # EventType values
    values: Floats  # NaN where the event had none
    at: npt.NDArray[np.float64]  # seconds since 1970, UTC

    def __post_init__(self) -> None:
        same_length(item_ids=self.item_ids, types=self.types, values=self.values, at=self.at)

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def empty(cls) -> Self:
        return cls(strings([]), strings([]), np.empty(0, np.float32), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class UserState:
    """All that serving knows of one person at one moment.

    `seen` are the item ids they acted on lately, exactly; `seen_tail` are 32-bit fingerprints (`winnow.seen`) of the
    ones before. `watermark` is the log position of the newest event included.
    """

    person: Person
    known: bool = False
    traits: Mapping[str, str] = field(default_factory=dict)
    history: History = field(default_factory=History.empty)
    seen: Strings = field(default_factory=lambda: strings([]))
    seen_tail: Bits = field(default_factory=lambda: np.empty(0, np.uint32))
    events: int = 0
    watermark: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Columns of n candidates, best first in retrieval's own order.

    `sources` holds one bit per entry of `source_names`, set where that source proposed the item; `scores` is
    (n, len(source_names)) float32, 0 where a source has nothing to say. `vectors` are there where the query asked for
    them and retrieval has any; those of one answer are of one model.
    """

    item_ids: Strings
    sources: Bits
    scores: Floats
    source_names: tuple[str, ...]
    bundle: str = ""
    skipped: tuple[str, ...] = ()  # sources that failed
    vectors: Directions | None = None

    def __post_init__(self) -> None:
        same_length(item_ids=self.item_ids, sources=self.sources, scores=self.scores)
        if self.vectors is not None:
            same_length(item_ids=self.item_ids, vectors=self.vectors)
        if self.scores.ndim != 2 or self.scores.shape[1] != len(self.source_names):
            raise InvalidArgument("needs one column per source", field="scores")

    def __len__(self) -> int:
        return len(self.item_ids)

    def take(self, rows: npt.NDArray[Any]) -> Candidates:
        """The same columns restricted to `rows`: a boolean mask, an order, or a slice's indices."""
        ids, sources, scores = self.item_ids[rows], self.sources[rows], self.scores[rows]
        vectors = None if self.vectors is None else self.vectors[rows]
        return replace(self, item_ids=ids, sources=sources, scores=scores, vectors=vectors)

    def without_vectors(self) -> Candidates:
        """The same for those who do not compare items."""
        return self if self.vectors is None else replace(self, vectors=None)

    def sources_of(self, row: int) -> tuple[str, ...]:
        """Names of the sources that proposed the candidate at `row`."""
        return named(int(self.sources[row]), self.source_names)


@lru_cache(maxsize=4096)
def named(bits: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names whose bit is set."""
    return tuple(name for n, name in enumerate(names) if bits >> n & 1)


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """Features of one person by name, before vocabularies and scales. A number is float64 and NaN where it is missing; a
    category is one text ("" where it is missing), and categories are as many as the feature has. `catalogue` is the
    item-log position that its facts of items are of; None where nobody said."""

    texts: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, float]
    catalogue: int | None = None


HEADS = ("click", "convert", "value")
TEXT = "text"
"""The source whose scores say how well an item's words match those of the request."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The ranker's column for one slate of n candidates, in the candidates' order.

    `heads` is (n, 3) float32: P(click), P(convert), E[value] in the catalogue's currency (or rating points);
    `scores` is (n,) float32, their sum weighted by the request's objectives; where the request has words, the gateway adds
    how well each candidate matches them. `vector` is what the model was told of the person, where the query asked for it.
    """

    heads: Floats
    scores: Floats
    bundle: str = ""
    vector: Vector | None = None

    def __post_init__(self) -> None:
        same_length(heads=self.heads, scores=self.scores)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is shown. `fact` names the kind of claim, `evidence` the ids or words that make it true."""

    text: str
    fact: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a write: how many records were taken, how many were known already, and the log position that a
    later answer must reach to include them. `token` says the same to clients; the gateway makes it, for events."""

    accepted: int
    duplicates: int
    watermark: int
    token: str = ""


@dataclass(frozen=True, slots=True)
class CataloguePage:
    """Items in the order they were written, newest version last; `watermark` is where the next page starts."""

    items: tuple[Item, ...]
    watermark: int
    more: bool


def check_id(value: object, name: str, *, required: bool = True) -> None:
    """An identifier: 1 to 256 characters, none of them a control or a replacement character, no surrounding blanks."""
    check_text(value, name, MAX_ID)
    assert isinstance(value, str)
    if required and not value:
        raise InvalidArgument("must not be empty", field=name)
    if value != value.strip():
        raise InvalidArgument("must not start or end with a blank", field=name)
    if "\ufffd" in value:  # what decoders put for bytes that they cannot read: several ids would become one
        raise InvalidArgument("must be valid UTF-8, without U+FFFD", field=name)


def check_text(value: object, name: str, limit: int) -> None:
    """Text of at most `limit` characters that every store and wire can carry (no NUL, no lone surrogate)."""
    if not isinstance(value, str):
        raise InvalidArgument("must be a string", field=name)
    if len(value) > limit:
        raise InvalidArgument(f"must have at most {limit} characters", field=name)
    if value.isprintable():  # then there is nothing in it that is looked for below
        return
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidArgument("must be valid Unicode", field=name)
    if any(c < " " and c not in "\t\n\r" for c in value) or "\x7f" in value:
        raise InvalidArgument("must not contain control characters", field=name)


def check_number(value: float | None, name: str, *, low: float, high: float) -> None:
    """A finite number within [low, high]; None passes."""
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise InvalidArgument(f"must be a number between {low:g} and {high:g}", field=name)


def check_time(value: datetime, name: str) -> None:
    """A time with a zone, between 1970 and 2200."""
    if value.tzinfo is None:
        raise InvalidArgument("must carry a time zone, for example 2026-01-31T12:00:00Z", field=name)
    if not EARLIEST <= value <= LATEST:
        raise InvalidArgument("must lie between 1970 and 2200", field=name)


def check_map(value: Mapping[str, str], name: str) -> None:
    """A small map of strings to strings."""
    if len(value) > MAX_ATTRIBUTES:
        raise InvalidArgument(f"at most {MAX_ATTRIBUTES} entries", field=name)
    for key, text in value.items():
        check_id(key, f"{name} key")
        check_text(text, f"{name}.{key}", 2_000)


def same_length(**columns: npt.NDArray[Any]) -> None:
    """Columns of one table have one length."""
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise InvalidArgument(f"columns differ in length: {lengths}", field=next(iter(columns)))
