"""Looks for the facts that hold of an item for a person, fast: the history is indexed once per request, and only the
fact that is chosen becomes an object.

Everything proposed holds (`facts.holds`); a property test says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.explanation.facts import (
    CHEAPER,
    FAVOURITE_ITEMS,
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
    is_new,
    tells,
    title_words,
    usual_price,
)
from services.explanation.newest import Newest
from services.explanation.popularity import Popularity
from services.explanation.templates import NAMED
from winnow.catalogue import Catalogue
from winnow.types import Context, Item, UserState

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


class TitleWords:
    """`title_words` of items, remembered while the item stays the same object."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Item, frozenset[str]]] = {}

    def of(self, item: Item) -> frozenset[str]:
        known = self._known.get(item.item_id)
        if known is None or known[0] is not item:
            known = self._known[item.item_id] = (item, frozenset(title_words(item)))
        return known[1]


@dataclass(slots=True)
class Tables:
    """What is known beside the person and the catalogue, kept from request to request."""

    newest: Newest
    popularity: Popularity = field(default_factory=Popularity)
    words: TitleWords = field(default_factory=TitleWords)


class Taste:
    """What a person's history says, indexed for looking up many items."""

    def __init__(
        self, user: UserState, catalogue: Catalogue, context: Context, positive_value: float, tables: Tables
    ) -> None:
        self._user, self._catalogue, self._context, self._tables = user, catalogue, context, tables
        self._usual: dict[str, float] = {}
        self._by_category: dict[str, list[int]] = {}
        self._by_brand: dict[str, list[int]] = {}
        self._by_word: dict[str, list[int]] = {}
        self.chosen: list[tuple[Item, Act, float]] = []  # newest first, with the weight of naming it
        counts: dict[str, int] = {}
        for item_id, act in reversed(chosen(user.history, positive_value).items()):
            item = catalogue.get(item_id)
            if item is not None:
                for category in {*item.categories}:
                    counts[category] = counts.get(category, 0) + 1
                if item.title:  # else it cannot be named
                    self._index(item, act)
        most = max(counts.values(), default=0)
        self.favourites = {category for category, n in counts.items() if n == most >= FAVOURITE_ITEMS}

    def _index(self, item: Item, act: Act) -> None:
        place = len(self.chosen)
        self.chosen.append((item, act, TELLING[act] - OLDER * place))
        add(self._by_category, {*item.categories}, place)
        add(self._by_word, self._tables.words.of(item), place)
        if item.brand:
            add(self._by_brand, (item.brand,), place)

    def proposals(self, item_id: str, sources: tuple[str, ...]) -> Iterator[Proposal]:
        """Every fact that holds of the item; never none."""
        item = self._catalogue.get(item_id)
        if item is not None:
            yield from self._from_history(item)
            yield from self._from_item(item)
        if top := self._tables.popularity.top(item_id):
            yield Proposal(38.0 - top / 25, Popular, made=Popular(top))
        for source in sources:
            if tells(source, self._user, item_id):
                yield Proposal(SOURCE_WEIGHT[source], FoundBy, made=FoundBy(source))
        yield Proposal(SHOWN, Shown, made=Shown())

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

    def _from_history(self, item: Item) -> Iterator[Proposal]:
        own = dict.fromkeys(item.categories)
        for place, n in self._overlaps(self._by_category, own, item).items():
            other, _, weight = self.chosen[place]
            alike = n / (len(own) + len(other.categories) - n)
            yield Proposal(45.0 + 30.0 * alike + weight, SharedCategories, place)
        for place in self._overlaps(self._by_brand, (item.brand,), item):
            yield Proposal(80.0 + self.chosen[place][2], SameBrand, place)
        for place, n in self._overlaps(self._by_word, self._tables.words.of(item), item).items():
            if n >= SHARED_WORDS:
                yield Proposal(60.0 + 5.0 * min(n, NAMED) + self.chosen[place][2], SharedWords, place)

    def _overlaps(self, index: Mapping[str, list[int]], values: Iterable[str], item: Item) -> dict[int, int]:
        """Places of chosen items that have some of these values, and how many; never the item itself."""
        found: dict[int, int] = {}
        for value in values:
            for place in index.get(value, ()):
                found[place] = found.get(place, 0) + 1
        for place in [place for place in found if self.chosen[place][0].item_id == item.item_id]:
            del found[place]
        return found

    def _from_item(self, item: Item) -> Iterator[Proposal]:
        if item.price is not None and item.price <= CHEAPER * self._usual_price(item.currency):
            yield Proposal(55.0, BelowUsualPrice, made=BelowUsualPrice())
        for category in item.categories:
            if category in self.favourites:
                yield Proposal(52.0, FavouriteCategory, made=FavouriteCategory(category))
        if is_new(item, self._context):
            yield Proposal(40.0, NewArrival, made=NewArrival())
        if top := self._tables.newest.top(item):
            yield Proposal(36.0 - top / 25, OfTheNewest, made=OfTheNewest(top))

    def _usual_price(self, currency: str) -> float:
        if currency not in self._usual:
            self._usual[currency] = usual_price(self._user.history, currency, self._catalogue)
        return self._usual[currency]


def add(index: dict[str, list[int]], values: Iterable[str], place: int) -> None:
    """Enter a chosen item under its values; places come newest first, and the newest are enough."""
    for value in values:
        places = index.get(value)
        if places is None:
            index[value] = [place]
        elif len(places) < WITNESSES:
            places.append(place)
