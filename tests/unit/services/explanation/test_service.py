"""Which fact is chosen, how it is worded, and that a slate does not repeat itself."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from services.explanation.build import build
from services.explanation.facts import Case, FavouriteCategory, SameBrand, SharedCategories, holds
from services.explanation.newest import Newest
from services.explanation.popularity import Popularity
from services.explanation.propose import Tables, Taste, TitleWords
from services.explanation.settings import Settings
from services.explanation.templates import TITLE_LETTERS, listed, text
from tests.bundles import STATS_AT, make_items, make_user, tiny_retrieval_bundle
from tests.contract.test_explanation_port import POPULARITY, items, queries
from winnow.catalogue import Catalogue
from winnow.home import DATASET
from winnow.ports import ExplainQuery
from winnow.types import Context, Item, Person, UserState, strings


def catalogue_of(*written: Item) -> Catalogue:
    made = Catalogue()
    made.upsert(written)
    return made


def test_sentences_are_worded_by_number() -> None:
    assert listed(["Comedy"]) == "Comedy"
    assert listed(["Comedy", "Drama"]) == "Comedy and Drama"
    assert listed(["Comedy", "Drama", "War"]) == "Comedy, Drama and War"


def test_the_sentence_says_what_they_did() -> None:
    find = catalogue_of(Item("x", "Fargo")).get
    assert text(SharedCategories("x", "liked", ("Crime",)), find) == "Because you liked Fargo — also Crime"
    assert text(SharedCategories("x", "viewed", ("Crime", "Drama")), find) == (
        "Because you looked at Fargo — also Crime and Drama"
    )
    assert text(SameBrand("x", "bought", "Coen"), find) == "From Coen, like Fargo, which you bought"
    assert text(FavouriteCategory("Crime"), find) == "More Crime, which you choose most often lately"


def test_long_titles_are_cut_and_unknown_items_named_by_id() -> None:
    find = catalogue_of(Item("x", "word " * 100)).get
    assert len(text(SameBrand("x", "liked", "b"), find)) < TITLE_LETTERS + 40
    assert "gone-7" in text(SameBrand("gone-7", "liked", "b"), find)


def test_ten_items_do_not_get_ten_times_the_same_reason() -> None:
    written = [Item(f"i{n}", f"Thing{n}", categories=("Drama", "War")) for n in range(20)]
    user = make_user("u", [f"i{n}" for n in range(9)])
    query = ExplainQuery(user, strings([f"i{n}" for n in range(10, 20)]), (("tower",),) * 10)
    reasons = asyncio.run(build(Settings(), catalogue_of(*written)).explain([query]))[0]
    assert len({reason.text for reason in reasons}) >= 5


def test_the_liked_value_is_a_setting() -> None:
    written = [Item("a", "A film", categories=("War",)), Item("b", "Another", categories=("War",))]
    user = make_user("u", ["zzz", "zzz", "a"])  # rated 4
    query = ExplainQuery(user, strings(["b"]), ((),))
    for lowest, expected in ((4.0, "Because you liked A film — also War"), (4.5, "A suggestion to try")):
        service = build(Settings(positive_value=lowest), catalogue_of(*written))
        assert asyncio.run(service.explain([query]))[0][0].text == expected


def test_the_liked_value_is_that_of_the_data_set_where_no_setting_says_another(tmp_path: Path) -> None:
    written = [Item("a", "A film", categories=("War",)), Item("b", "Another", categories=("War",))]
    query = ExplainQuery(make_user("u", ["zzz", "zzz", "a"]), strings(["b"]), ((),))  # rated 4
    (tmp_path / DATASET).write_text('{"positive_value": 4.5}', encoding="utf-8")
    for lowest, expected in ((None, "A suggestion to try"), (4.0, "Because you liked A film — also War")):
        service = build(Settings(home=tmp_path, positive_value=lowest), catalogue_of(*written))
        assert asyncio.run(service.explain([query]))[0][0].text == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(items, max_size=14), queries())
def test_every_proposal_holds_also_those_not_chosen(written: list[Item], query: ExplainQuery) -> None:
    catalogue = catalogue_of(*written)
    taste = Taste(query.user, catalogue, query.context, 4.0, Tables(Newest(catalogue), POPULARITY), query.item_ids)
    for item_id, sources in zip(query.item_ids, query.sources, strict=True):
        case = Case(item_id, query.user, catalogue, sources, query.context, popularity=POPULARITY)
        for proposal in taste.proposals(item_id, sources):
            assert holds(taste.fact(item_id, proposal), case), proposal


def test_only_the_most_frequent_category_is_the_favourite() -> None:
    written = [Item(f"i{n}", f"Thing{n}", categories=("Drama", "War") if n < 3 else ("Drama",)) for n in range(5)]
    user = make_user("u", [f"i{n}" for n in range(5)])
    assert Taste(user, catalogue_of(*written), Context(), 4.0, Tables(Newest(Catalogue())), ()).favourites == {"Drama"}


def test_the_newest_follow_the_catalogue() -> None:
    catalogue = catalogue_of(*(Item(f"i{n}", created_at=STATS_AT + timedelta(days=n)) for n in range(60)))
    newest = Newest(catalogue)
    tops = [newest.top(catalogue.item(row)) for row in range(60)]
    assert tops == [0] * 10 + [50] * 30 + [20] * 10 + [10] * 10
    catalogue.upsert([Item("new", created_at=STATS_AT + timedelta(days=99))])
    assert newest.top(catalogue.item(60)) == 10
    assert newest.top(catalogue.item(50)) == 20


def test_popularity_is_that_of_the_bundle(tmp_path: Path) -> None:
    bundle = tiny_retrieval_bundle(tmp_path, make_items(300))
    stats = pq.read_table(bundle.file("stats.parquet")).to_pandas().set_index("item_id")["recent"]
    popularity = Popularity.of(bundle)
    assert popularity.top(stats.idxmax()) == 10
    assert popularity.top(stats.idxmin()) == 0
    assert sum(popularity.top(item_id) == 10 for item_id in stats.index) == 10
    assert sum(popularity.top(item_id) > 0 for item_id in stats.index) == 30, "a tenth of the catalogue at most"


def test_a_newcomer_is_told_of_popular_and_new_items_and_not_ten_times_the_same() -> None:
    written = [Item(f"i{n}", f"Thing{n}", created_at=STATS_AT + timedelta(days=n)) for n in range(100)]
    service = build(Settings(), catalogue_of(*written))
    service.use(Popularity({f"i{n}": n % 10 + 1 for n in range(90, 100)}))
    query = ExplainQuery(UserState(Person("u")), strings([f"i{n}" for n in range(90, 100)]), (("tower",),) * 10)
    facts = [reason.fact for reason in asyncio.run(service.explain([query]))[0]]
    assert sorted(facts) == ["of_the_newest"] * 5 + ["popular"] * 5


def test_a_rewritten_item_is_read_again() -> None:
    words, old, new = TitleWords(), Item("a", "First Title"), Item("a", "Second Title")
    assert words.of(old) == {"first", "title"}
    assert words.of(new) == {"second", "title"}


def test_ten_reasons_from_a_full_history_take_two_milliseconds_of_a_core_at_most() -> None:
    catalogue = catalogue_of(*make_items(200))
    service = build(Settings(), catalogue)
    query = ExplainQuery(
        make_user("u", [f"i{n}" for n in range(50)]), strings([f"i{n}" for n in range(100, 110)]), (("tower",),) * 10
    )

    async def fastest_ms() -> float:
        times = []
        for _ in range(50):
            started = time.thread_time()
            await service.explain([query])
            times.append(time.thread_time() - started)
        return 1000 * min(times)

    assert asyncio.run(fastest_ms()) < 2.0
