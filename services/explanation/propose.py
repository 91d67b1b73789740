"""Looks for the facts that hold of an item for a person, fast: the history is indexed once per request, and only the
fact that is chosen becomes an object.

Everything proposed holds (`facts.holds`); a property test says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import NamedTuple, Self

from services.explanation.facts import (
    CHEAPER,
    FAVOURITE_ITEMS,
    NEW_DAYS,
    SHARED_WORDS,
    Act,
    BelowUsualPrice,
    Fact,
    FavouriteCategory,
    FoundBy,
    NewArrival,
    OfTheNewest,
    Popular,
    SameBrand,
    SharedCategories,
    SharedWords,
    Shown,
    chosen,
    tells,
    title_words,
    usual_price,
)
from services.explanation.newest import Newest
from services.explanation.popularity import Popularity
from services.explanation.templates import NAMED
from winnow.catalogue import Catalogue
from winnow.types import EARLIEST, Context, EventType, Item, UserState

TELLING: dict[Act, float] = {"bought": 8.0, "liked": 8.0, "carted": 4.0, "viewed": 0.0}
WITNESSES = 4  # newest items of the history that are looked at per category, brand or word
OLDER = 0.1  # weight that an item of the history loses per place that it lies back
SOURCE_WEIGHT = {"text": 95.0, "again": 60.0, "sequence": 50.0, "item_to_item": 48.0, "tower": 20.0}
SHOWN = -100.0  # said only where nothing else is left


class Proposal(NamedTuple):
    """A fact that holds. The more it says of item and person, the higher its weight. One that names an item of the
    history has that item's `place` in `Taste.chosen` and is made only when it wins."""

    weight: float
    kind: type[Fact]
    place: int = -1
    made: Fact | None = None


class Told(NamedTuple):
    """What an item says of itself, whoever asks: words of its title, distinct categories, when it entered the catalogue
    (UTC, and in seconds since 1970; None where it does not say)."""

    item: Item
    words: frozenset[str]
    categories: tuple[str, ...]
    created: datetime | None
    created_s: float


class TitleWords:
    """What items say of themselves, remembered while the item stays the same object."""

    def __init__(self) -> None:
        self._known: dict[str, Told] = {}

    def of(self, item: Item) -> frozenset[str]:
        return self.told(item).words

    def told(self, item: Item) -> Told:
        known = self._known.get(item.item_id)
        if known is None or known.item is not item:
            at = item.created_at
            known = self._known[item.item_id] = Told(
                item,
                frozenset(title_words(item)),
                tuple(dict.fromkeys(item.categories)),
                at.astimezone(UTC) if at > EARLIEST else None,
                at.timestamp(),
            )
        return known


@dataclass(slots=True)
class Tables:
    """What is known beside the person and the catalogue, kept from request to request."""

    newest: Newest
    popularity: Popularity = field(default_factory=Popularity)
    words: TitleWords = field(default_factory=TitleWords)


@dataclass(frozen=True, slots=True)
class Shared:
    """What items may have in common with others: all that an index of a history need hold for them."""

    categories: frozenset[str]
    words: frozenset[str]
    brands: frozenset[str]

    @classmethod
    def of(cls, several: Sequence[Told]) -> Self:
        return cls(
            frozenset(chain.from_iterable(told.categories for told in several)),
            frozenset(chain.from_iterable(told.words for told in several)),
            frozenset(told.item.brand for told in several),
        )


class Taste:
    """What a person's history says, indexed for looking up the items of one slate."""

    def __init__(
        self,
        user: UserState,
        catalogue: Catalogue,
        context: Context,
        positive_value: float,
        tables: Tables,
        item_ids: Iterable[str],
    ) -> None:
        self._user, self._catalogue, self._tables = user, catalogue, tables
        self._usual: dict[str, float] = {}
        self._by_category: dict[str, list[int]] = {}
        self._by_brand: dict[str, list[int]] = {}
        self._by_word: dict[str, list[int]] = {}
        self.chosen: list[tuple[Item, Act, float]] = []  # newest first, with the weight of naming it
        self._place: dict[str, int] = {}  # of an item in `chosen`
        self._until = None if context.at is None else context.at.astimezone(UTC)
        self._since = None if self._until is None else self._until - timedelta(days=NEW_DAYS)
        self._acted: set[str] | None = None
        asked = [item for item in map(catalogue.get, item_ids) if item is not None]
        self._shared = Shared.of([tables.words.told(item) for item in asked])
        counts: dict[str, int] = {}
        for item_id, act in reversed(chosen(user.history, positive_value).items()):
            item = catalogue.get(item_id)
            if item is not None:
                told = tables.words.told(item)
                for category in told.categories:
                    counts[category] = counts.get(category, 0) + 1
                if item.title:  # else it cannot be named
                    self._index(told, act)
        most = max(counts.values(), default=0)
        self.favourites = {category for category, n in counts.items() if n == most >= FAVOURITE_ITEMS}

    def _index(self, told: Told, act: Act) -> None:
        item, place = told.item, len(self.chosen)
        self.chosen.append((item, act, TELLING[act] - OLDER * place))
        self._place[item.item_id] = place
        shared = self._shared
        add(self._by_category, [name for name in told.categories if name in shared.categories], place)
        if words := told.words & shared.words:
            add(self._by_word, words, place)
        if item.brand and item.brand in shared.brands:
            add(self._by_brand, (item.brand,), place)

    def proposals(self, item_id: str, sources: tuple[str, ...]) -> list[Proposal]:
        """Every fact that holds of the item; never none."""
        found: list[Proposal] = []
        item = self._catalogue.get(item_id)
        if item is not None:
            told = self._tables.words.told(item)
            self._from_history(told, found)
            self._from_item(told, found)
        if top := self._tables.popularity.top(item_id):
            found.append(Proposal(38.0 - top / 25, Popular, made=Popular(top)))
        found += [FOUND[source] for source in sources if self._tells(source, item_id)]
        found.append(NOTHING_ELSE)
        return found

    def _tells(self, source: str, item_id: str) -> bool:
        """As `facts.tells`, without a look at the whole history for each item."""
        if source == "again":
            if self._acted is None:
                history = self._user.history
                self._acted = set(history.item_ids[history.types != EventType.DISMISS])
            return item_id in self._acted
        return source in FOUND and tells(source, self._user, item_id)

    def fact(self, item_id: str, proposal: Proposal) -> Fact:
        """The fact that one of the item's proposals stands for."""
        if proposal.made is not None:
            return proposal.made
        item = self._catalogue.get(item_id)
        assert item is not None
        other, act, _ = self.chosen[proposal.place]
        if proposal.kind is SameBrand:
            return SameBrand(other.item_id, act, item.brand)
        if proposal.kind is SharedCategories:
            shared = [c for c in dict.fromkeys(item.categories) if c in other.categories]
            return SharedCategories(other.item_id, act, tuple(shared[:NAMED]))
        return SharedWords(
            other.item_id, act, tuple(sorted(self._tables.words.of(item) & self._tables.words.of(other))[:NAMED])
        )

    def _from_history(self, told: Told, found: list[Proposal]) -> None:
        chosen, categories, itself = self.chosen, told.categories, self._place.get(told.item.item_id, -1)
        for place, n in overlaps(self._by_category, categories, itself).items():
            other, _, weight = chosen[place]
            alike = n / (len(categories) + len(other.categories) - n)
            found.append(Proposal(45.0 + 30.0 * alike + weight, SharedCategories, place))
        for place in self._by_brand.get(told.item.brand, ()):
            if place != itself:
                found.append(Proposal(80.0 + chosen[place][2], SameBrand, place))  # noqa: PERF401 (one place, mostly)
        for place, n in overlaps(self._by_word, told.words, itself).items():
            if n >= SHARED_WORDS:
                found.append(Proposal(60.0 + 5.0 * min(n, NAMED) + chosen[place][2], SharedWords, place))

    def _from_item(self, told: Told, found: list[Proposal]) -> None:
        item = told.item
        if item.price is not None and item.price <= CHEAPER * self._usual_price(item.currency):
            found.append(CHEAP)
        favourites = [category for category in item.categories if category in self.favourites]
        found += [Proposal(52.0, FavouriteCategory, made=FavouriteCategory(one)) for one in favourites]
        if told.created is None:
            return
        if self._until is not None and self._since is not None and self._since <= told.created <= self._until:
            found.append(ARRIVED)
        if top := self._tables.newest.among(told.created_s):
            found.append(Proposal(36.0 - top / 25, OfTheNewest, made=OfTheNewest(top)))

    def _usual_price(self, currency: str) -> float:
        if currency not in self._usual:
            self._usual[currency] = usual_price(self._user.history, currency, self._catalogue)
        return self._usual[currency]


FOUND = {source: Proposal(weight, FoundBy, made=FoundBy(source)) for source, weight in SOURCE_WEIGHT.items()}
NOTHING_ELSE = Proposal(SHOWN, Shown, made=Shown())
CHEAP = Proposal(55.0, BelowUsualPrice, made=BelowUsualPrice())
ARRIVED = Proposal(40.0, NewArrival, made=NewArrival())


def overlaps(index: Mapping[str, list[int]], values: Iterable[str], itself: int) -> dict[int, int]:
    """Places of chosen items that have some of these values, and how many; never the item's own place."""
    found: dict[int, int] = {}
    for value in values:
        for place in index.get(value, ()):
            found[place] = found.get(place, 0) + 1
    found.pop(itself, None)
    return found


def add(index: dict[str, list[int]], values: Iterable[str], place: int) -> None:
    """Enter a chosen item under its values; places come newest first, and the newest are enough."""
    for value in values:
        places = index.get(value)
        if places is None:
            index[value] = [place]
        elif len(places) < WITNESSES:
            places.append(place)
