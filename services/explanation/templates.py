"""How each fact is worded: one template per fact, which says what the fact says and nothing beyond.

The words fit any catalogue: nothing is "watched", "read" or "worn", because nothing here knows what the items are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.explanation.facts import (
    NEW_DAYS,
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
)
from winnow.types import Item

TITLE_LETTERS = 60  # of a title inside a sentence
NAMED = 3  # categories or words named at most

DID: dict[Act, str] = {
    "bought": "you bought",
    "liked": "you liked",
    "carted": "you put in your cart",
    "viewed": "you looked at",
}
BECAUSE: dict[Act, str] = {
    "bought": "Because you bought {}",
    "liked": "Because you liked {}",
    "carted": "Because you put {} in your cart",
    "viewed": "Because you looked at {}",
}
FOUND: dict[str, str] = {
    "text": "Matches what you searched for",
    "again": "You chose this before",
    "sequence": "Chosen by others right after what you chose lately",
    "item_to_item": "Chosen by others who chose what you chose lately",
    "tower": "Suggested by what you did lately",
}


def text(fact: Fact, find: Callable[[str], Item | None]) -> str:
    """The sentence for a fact. `find` gives the items that the fact names; an unknown one is called by its id."""
    match fact:
        case SharedCategories(because, act, categories):
            return f"{BECAUSE[act].format(title(because, find))} — also {listed(categories)}"
        case SharedWords(because, act, words):
            return f"{BECAUSE[act].format(title(because, find))} — also {listed([f'“{word}”' for word in words])}"
        case SameBrand(because, act, brand):
            return f"From {short(brand)}, like {title(because, find)}, which {DID[act]}"
        case FavouriteCategory(category):
            return f"More {short(category)}, which you choose most often lately"
        case BelowUsualPrice():
            return "Costs clearly less than you usually pay"
        case NewArrival():
            return f"New here in the last {NEW_DAYS} days"
        case Popular(top):
            return f"Among the {top} that people choose most lately"
        case OfTheNewest(top):
            return f"Among the {top} newest here"
        case FoundBy(source):
            return FOUND[source]
        case Shown():
            return "A suggestion to try"


def title(item_id: str, find: Callable[[str], Item | None]) -> str:
    item = find(item_id)
    return short(item.title if item is not None and item.title else item_id)


def short(words: str) -> str:
    return words if len(words) <= TITLE_LETTERS else words[: TITLE_LETTERS - 1].rstrip() + "…"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *head, last = words[:NAMED]
    return f"{', '.join(head)} and {last}" if head else last
