"""What may be said of an item to a person: one small type per claim, and `holds`, which says whether it is true.

A reason carries its fact's name and evidence, so whoever receives it can rebuild the fact (`fact_of`) and check it
again. Nothing here words a claim (`templates`) or looks for one (`propose`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import ClassVar, Literal, get_args

from services.explanation.popularity import Popularity
from winnow.catalogue import Catalogue
from winnow.errors import InvalidArgument
from winnow.features import words
from winnow.types import EARLIEST, Context, EventType, History, Item, Reason, UserState

Act = Literal["bought", "liked", "carted", "viewed"]
ACTS: tuple[Act, ...] = get_args(Act)  # strongest first
MEANS: Mapping[str, Act] = {EventType.PURCHASE: "bought", EventType.CART: "carted", EventType.CLICK: "viewed"}
"""What an event says the person did, besides ratings; any other says that they did not care for the item."""

FAVOURITE_ITEMS = 3  # items of one category that make it a favourite
PAID_PRICES = 3  # purchases that make a usual price
CHEAPER = 0.75  # of the usual price counts as clearly below it
NEW_DAYS = 30  # an item is a new arrival for so long
WORD_LETTERS = 4  # shorter words say little about what a thing is
EMPTY_WORDS = frozenset(
    {"about", "after", "back", "from", "have", "here", "into", "more", "most", "never", "only", "over", "some", "than"}
    | {"that", "them", "then", "they", "this", "upon", "very", "what", "when", "where", "which", "with", "your"}
)
SHARED_WORDS = 2  # words that two titles have in common before it is worth saying


@dataclass(frozen=True, slots=True)
class Case:
    """One item shown to one person, with all that a claim about it may rest on. `positive_value` is the lowest rating
    that means "liked"."""

    item_id: str
    user: UserState
    catalogue: Catalogue
    sources: tuple[str, ...] = ()
    context: Context = Context()
    positive_value: float = 4.0
    popularity: Popularity = field(default_factory=Popularity)

    @property
    def item(self) -> Item | None:
        return self.catalogue.get(self.item_id)


@dataclass(frozen=True, slots=True)
class SharedCategories:
    """The item has `categories` in common with `because`, which the person `act`."""

    name: ClassVar[str] = "shared_categories"
    because: str
    act: Act
    categories: tuple[str, ...]

    def evidence(self) -> tuple[str, ...]:
        return (self.because, self.act, *self.categories)


@dataclass(frozen=True, slots=True)
class SharedWords:
    """The titles of the item and of `because`, which the person `act`, have `words` in common."""

    name: ClassVar[str] = "shared_words"
    because: str
    act: Act
    words: tuple[str, ...]

    def evidence(self) -> tuple[str, ...]:
        return (self.because, self.act, *self.words)


@dataclass(frozen=True, slots=True)
class SameBrand:
    """The item is of `brand`, as is `because`, which the person `act`. A book's brand is its author."""

    name: ClassVar[str] = "same_brand"
    because: str
    act: Act
    brand: str

    def evidence(self) -> tuple[str, ...]:
        return (self.because, self.act, self.brand)


@dataclass(frozen=True, slots=True)
class FavouriteCategory:
    """The item has `category`, which no other category beats among what the person chose lately."""

    name: ClassVar[str] = "favourite_category"
    category: str

    def evidence(self) -> tuple[str, ...]:
        return (self.category,)


@dataclass(frozen=True, slots=True)
class BelowUsualPrice:
    """The item costs at most `CHEAPER` of the median of what the person lately paid, in the same currency."""

    name: ClassVar[str] = "below_usual_price"

    def evidence(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class NewArrival:
    """The item entered the catalogue within `NEW_DAYS` days before the request."""

    name: ClassVar[str] = "new_arrival"

    def evidence(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Popular:
    """The item is among the `top` that people chose most lately."""

    name: ClassVar[str] = "popular"
    top: int

    def evidence(self) -> tuple[str, ...]:
        return (str(self.top),)


@dataclass(frozen=True, slots=True)
class OfTheNewest:
    """The item is among the `top` that entered the catalogue last."""

    name: ClassVar[str] = "of_the_newest"
    top: int

    def evidence(self) -> tuple[str, ...]:
        return (str(self.top),)


@dataclass(frozen=True, slots=True)
class FoundBy:
    """A source of retrieval proposed the item; what that means in words is in `templates.FOUND`."""

    name: ClassVar[str] = "found_by"
    source: str

    def evidence(self) -> tuple[str, ...]:
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Shown:
    """The item is shown. Claims nothing more, so it always holds."""

    name: ClassVar[str] = "shown"

    def evidence(self) -> tuple[str, ...]:
        return ()


Fact = (
    SharedCategories
    | SharedWords
    | SameBrand
    | FavouriteCategory
    | BelowUsualPrice
    | NewArrival
    | Popular
    | OfTheNewest
    | FoundBy
    | Shown
)

SOURCES: Mapping[str, bool] = {"text": False, "again": True, "sequence": True, "item_to_item": True, "tower": True}
"""Sources that are worth telling, and whether what they mean rests on the person's history."""


def tells(source: str, user: UserState, item_id: str) -> bool:
    """Whether it says something true that this source proposed the item for this person."""
    if source == "again":  # what was seen longer ago may have been dismissed: only the history knows
        history = user.history
        return bool(((history.item_ids == item_id) & (history.types != EventType.DISMISS)).any())
    return source in SOURCES and (not SOURCES[source] or len(user.history) > 0)


def fact_of(reason: Reason) -> Fact:
    """The fact behind a reason. InvalidArgument for a reason that is not of this service's making."""
    match (reason.fact, *reason.evidence):
        case ("shared_categories", because, ("bought" | "liked" | "carted" | "viewed") as act, *shared) if shared:
            return SharedCategories(because, act, tuple(shared))
        case ("shared_words", because, ("bought" | "liked" | "carted" | "viewed") as act, *shared) if shared:
            return SharedWords(because, act, tuple(shared))
        case ("same_brand", because, ("bought" | "liked" | "carted" | "viewed") as act, brand):
            return SameBrand(because, act, brand)
        case ("favourite_category", category):
            return FavouriteCategory(category)
        case ("below_usual_price",):
            return BelowUsualPrice()
        case ("new_arrival",):
            return NewArrival()
        case ("popular", top) if top.isdecimal():
            return Popular(int(top))
        case ("of_the_newest", top) if top.isdecimal():
            return OfTheNewest(int(top))
        case ("found_by", source):
            return FoundBy(source)
        case ("shown",):
            return Shown()
        case _:
            raise InvalidArgument(f"no fact {reason.fact!r} with evidence {reason.evidence}", field="reason")


def holds(fact: Fact, case: Case) -> bool:
    """Whether the claim is true of this item for this person, by its plain meaning and without any index."""
    item = case.item
    match fact:
        case Shown():
            return True
        case FoundBy(source):
            return source in case.sources and tells(source, case.user, case.item_id)
        case Popular(top):
            return 0 < case.popularity.top(case.item_id) <= top
        case _ if item is None:
            return False
        case OfTheNewest(top):
            created = case.catalogue.created
            return item.created_at > EARLIEST and int((created >= item.created_at.timestamp()).sum()) <= top
        case SharedCategories(because, act, shared):
            other = case.catalogue.get(because)
            return (
                did(case, because, act) and other is not None and {*shared} <= {*item.categories} & {*other.categories}
            )
        case SharedWords(because, act, shared):
            other = case.catalogue.get(because)
            return did(case, because, act) and other is not None and {*shared} <= title_words(item) & title_words(other)
        case SameBrand(because, act, brand):
            other = case.catalogue.get(because)
            return did(case, because, act) and other is not None and brand == item.brand == other.brand != ""
        case FavouriteCategory(category):
            counts = category_counts(chosen(case.user.history, case.positive_value), case.catalogue)
            most = max(counts.values(), default=0)
            return category in item.categories and counts[category] == most >= FAVOURITE_ITEMS
        case BelowUsualPrice():
            usual = usual_price(case.user.history, item.currency, case.catalogue)
            return item.price is not None and item.price <= CHEAPER * usual
        case NewArrival():
            return is_new(item, case.context)


def did(case: Case, item_id: str, act: Act) -> bool:
    """Whether this is what the person did with another item, and did not think badly of it."""
    return item_id != case.item_id and chosen(case.user.history, case.positive_value).get(item_id) == act


def chosen(history: History, positive_value: float) -> dict[str, Act]:
    """The strongest act per item of the history, newest item last. An item that they dismissed or rated below
    `positive_value` is left out, whatever else they did with it."""
    acts: dict[str, Act] = {}
    rejected: set[str] = set()
    for item_id, kind, value in zip(*columns(history), strict=True):
        act: Act | None = "liked" if kind == "rating" and value >= positive_value else MEANS.get(kind)
        if act is None:
            rejected.add(item_id)
        elif item_id in acts:
            acts[item_id] = min(acts.pop(item_id), act, key=ACTS.index)
        else:
            acts[item_id] = act
    for item_id in rejected:
        acts.pop(item_id, None)
    return acts


def columns(history: History) -> tuple[list[str], list[str], list[float]]:
    """Ids, types and values as lists, which Python walks faster than arrays."""
    return history.item_ids.tolist(), history.types.tolist(), history.values.tolist()


def category_counts(acts: Mapping[str, Act], catalogue: Catalogue) -> Counter[str]:
    """In how many of these items each category occurs."""
    items = (catalogue.get(item_id) for item_id in acts)
    return Counter(category for item in items if item is not None for category in dict.fromkeys(item.categories))


def usual_price(history: History, currency: str, catalogue: Catalogue) -> float:
    """The median unit price of the history's purchases in this currency; NaN when they are too few to tell."""
    paid = [
        float(value)
        for item_id, kind, value in zip(*columns(history), strict=True)
        if kind == EventType.PURCHASE
        and not math.isnan(value)
        and (item := catalogue.get(item_id)) is not None
        and item.currency == currency
    ]
    return median(paid) if len(paid) >= PAID_PRICES else math.nan


def is_new(item: Item, context: Context) -> bool:
    """Whether the item is a new arrival at the moment of the request; never without a known moment."""
    if context.at is None or item.created_at <= EARLIEST:
        return False
    return timedelta(0) <= context.at - item.created_at <= timedelta(days=NEW_DAYS)


def title_words(item: Item) -> set[str]:
    """Words of the title that may say what the thing is."""
    return {
        word
        for word in words(item.title)
        if len(word) >= WORD_LETTERS and word not in EMPTY_WORDS and not word.isdigit()
    }
