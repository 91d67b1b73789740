"""Each fact by example: when it holds and when it does not, in words a person would agree to."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from services.explanation.facts import (
    BelowUsualPrice,
    Case,
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
    fact_of,
    holds,
)
from services.explanation.popularity import Popularity
from winnow.catalogue import Catalogue
from winnow.errors import InvalidArgument
from winnow.types import Context, History, Item, Person, Reason, UserState, strings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def catalogue() -> Catalogue:
    made = Catalogue()
    made.upsert(
        [
            Item("alien", "Alien Planet", categories=("Horror", "Sci-Fi"), brand="Scott", price=8.0, currency="EUR"),
            Item(
                "aliens",
                "Alien Planet Again",
                categories=("Action", "Sci-Fi"),
                brand="Cameron",
                price=10.0,
                currency="EUR",
            ),
            Item("runner", "Blade", categories=("Sci-Fi",), brand="Scott", price=30.0, currency="EUR", created_at=NOW),
            Item("heat", "Heat", categories=("Action",), price=8.0, currency="GBP"),
        ]
    )
    return made


def history(*acts: tuple[str, str, float]) -> UserState:
    columns = History(
        strings([item_id for item_id, _, _ in acts]),
        strings([kind for _, kind, _ in acts]),
        np.asarray([value for _, _, value in acts], np.float32),
        np.arange(len(acts), dtype=np.float64),
    )
    return UserState(Person(user_id="u"), known=True, history=columns)


def true(fact: Fact, item_id: str, user: UserState, *sources: str, at: datetime | None = None) -> bool:
    popularity = Popularity({"heat": 7, "alien": 12})
    return holds(fact, Case(item_id, user, catalogue(), sources, Context(at=at), popularity=popularity))


LIKED = history(("alien", "rating", 5.0))
LOOKED = history(("alien", "click", math.nan))
SAME = SharedCategories("alien", "liked", ("Sci-Fi",))


def test_liked_is_said_only_of_a_rating_that_is_high_enough() -> None:
    assert true(SAME, "aliens", LIKED)
    assert not true(SAME, "aliens", history(("alien", "rating", 3.0)))
    assert not true(SAME, "aliens", LOOKED)
    assert true(SharedCategories("alien", "viewed", ("Sci-Fi",)), "aliens", LOOKED)


@pytest.mark.parametrize("turned", [("alien", "dismiss", math.nan), ("alien", "rating", 1.0)])
def test_an_item_they_turned_away_from_is_no_reason(turned: tuple[str, str, float]) -> None:
    assert not true(SAME, "aliens", history(("alien", "rating", 5.0), turned))
    assert not true(SAME, "aliens", history(turned, ("alien", "rating", 5.0)))


def test_bought_outweighs_looked_at() -> None:
    both = history(("alien", "purchase", 9.0), ("alien", "click", math.nan))
    assert true(SharedCategories("alien", "bought", ("Sci-Fi",)), "aliens", both)
    assert not true(SharedCategories("alien", "viewed", ("Sci-Fi",)), "aliens", both)


def test_only_categories_of_both_are_shared() -> None:
    assert not true(SharedCategories("alien", "liked", ("Horror",)), "aliens", LIKED)
    assert not true(SAME, "heat", LIKED)


def test_an_item_is_no_reason_for_itself() -> None:
    assert not true(SAME, "alien", LIKED)


def test_a_brand_is_the_same_only_when_there_is_one() -> None:
    assert true(SameBrand("alien", "liked", "Scott"), "runner", LIKED)
    assert not true(SameBrand("alien", "liked", "Scott"), "aliens", LIKED)
    assert not true(SameBrand("heat", "liked", ""), "heat", LIKED)


def test_words_are_those_of_both_titles() -> None:
    assert true(SharedWords("alien", "liked", ("alien", "planet")), "aliens", LIKED)
    assert not true(SharedWords("alien", "liked", ("again",)), "aliens", LIKED)


def test_a_favourite_needs_three_items_and_no_better_category() -> None:
    three = history(*((item, "click", math.nan) for item in ("alien", "aliens", "runner")))
    assert true(FavouriteCategory("Sci-Fi"), "runner", three)
    assert not true(FavouriteCategory("Action"), "heat", three)
    assert not true(FavouriteCategory("Sci-Fi"), "heat", three)
    assert not true(FavouriteCategory("Sci-Fi"), "aliens", history(("alien", "click", math.nan)))


def test_a_price_is_low_only_against_enough_purchases_in_its_currency() -> None:
    paid = history(*(("runner", "purchase", 20.0),) * 3)
    assert true(BelowUsualPrice(), "alien", paid)
    assert not true(BelowUsualPrice(), "runner", paid)
    assert not true(BelowUsualPrice(), "heat", paid)
    assert not true(BelowUsualPrice(), "alien", history(*(("runner", "purchase", 20.0),) * 2))
    assert not true(BelowUsualPrice(), "alien", history(*(("runner", "cart", 20.0),) * 3))


def test_new_is_judged_at_the_moment_of_the_request() -> None:
    assert true(NewArrival(), "runner", LIKED, at=NOW + timedelta(days=30))
    assert not true(NewArrival(), "runner", LIKED, at=NOW + timedelta(days=31))
    assert not true(NewArrival(), "runner", LIKED, at=NOW - timedelta(days=1))
    assert not true(NewArrival(), "runner", LIKED)
    assert not true(NewArrival(), "alien", LIKED, at=NOW)


def test_popular_is_said_up_to_the_place_that_is_told() -> None:
    assert true(Popular(10), "heat", history())
    assert true(Popular(20), "alien", history())
    assert not true(Popular(10), "alien", history())
    assert not true(Popular(100), "aliens", history())


def test_the_newest_are_counted_with_all_of_their_moment() -> None:
    assert true(OfTheNewest(1), "runner", history())
    assert not true(OfTheNewest(10), "alien", history()), "an item without a date is not new"
    written = [Item(f"i{n}", created_at=NOW) for n in range(11)]
    many = Catalogue()
    many.upsert(written)
    assert not holds(OfTheNewest(10), Case("i0", LIKED, many))
    assert holds(OfTheNewest(20), Case("i0", LIKED, many))


def test_a_source_is_told_only_when_it_proposed_the_item() -> None:
    assert true(FoundBy("text"), "heat", history(), "text")
    assert not true(FoundBy("text"), "heat", history(), "tower")
    assert not true(FoundBy("mystery"), "heat", history(), "mystery")


def test_a_source_that_rests_on_history_needs_one() -> None:
    assert true(FoundBy("tower"), "heat", LIKED, "tower")
    assert not true(FoundBy("tower"), "heat", history(), "tower")


def test_nobody_is_told_that_they_chose_what_they_did_not() -> None:
    assert true(FoundBy("again"), "alien", LIKED, "again")
    assert not true(FoundBy("again"), "heat", LIKED, "again")
    assert not true(FoundBy("again"), "alien", LIKED, "tower")
    dismissed = history(("alien", "dismiss", math.nan))
    assert not true(FoundBy("again"), "alien", replace(dismissed, seen=strings(["alien"])), "again")
    assert not true(FoundBy("again"), "alien", replace(history(), seen=strings(["alien"])), "again"), (
        "perhaps dismissed"
    )


def test_nothing_but_sources_is_claimed_of_an_unknown_item() -> None:
    assert not true(SAME, "unknown", LIKED)
    assert not true(NewArrival(), "unknown", LIKED, at=NOW)
    assert true(Shown(), "unknown", LIKED)


def test_a_reason_of_other_making_is_refused() -> None:
    for reason in (Reason("Because", "astrology"), Reason("x", "same_brand", ("alien", "adored", "Scott"))):
        with pytest.raises(InvalidArgument):
            fact_of(reason)


@pytest.mark.parametrize(
    "fact",
    [
        SAME,
        SharedWords("alien", "bought", ("alien", "planet")),
        SameBrand("alien", "carted", "Scott"),
        FavouriteCategory("Sci-Fi"),
        BelowUsualPrice(),
        NewArrival(),
        Popular(20),
        OfTheNewest(10),
        FoundBy("tower"),
        Shown(),
    ],
)
def test_a_reason_gives_its_fact_back(fact: Fact) -> None:
    assert fact_of(Reason("", fact.name, fact.evidence())) == fact
