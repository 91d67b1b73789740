"""Each source alone, on neighbours and words whose right answer is visible."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval.ask import Ask, first
from services.retrieval.bundle import Neighbours, Reading, load
from services.retrieval.model import Model
from services.retrieval.sources.again import Again
from services.retrieval.sources.fresh import Fresh
from services.retrieval.sources.item_to_item import ItemToItem
from services.retrieval.sources.sequence import Sequence
from services.retrieval.sources.text import MAX_MATCHES, Text
from services.retrieval.sources.tower import Tower, nearest
from services.retrieval.sources.trending import Trending
from tests.bundles import STATS_AT, make_items, make_user, tiny_retrieval_bundle
from winnow.catalogue import Catalogue
from winnow.features import UserView
from winnow.inference import InProcess
from winnow.types import HISTORY, Context, EventType, Item

N = 40
EVERYTHING = np.ones(N, np.bool_)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    catalogue = Catalogue()
    catalogue.upsert(reversed(make_items(N)))  # row of i<n> is N - 1 - n
    return catalogue


@pytest.fixture(scope="module")
def model(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Item n is followed by n+1 (0.5) and n+2 (0.25) and goes together with n-1 (1.0)."""
    bundle = load(tiny_retrieval_bundle(tmp_path_factory.mktemp("bundle"), make_items(N)), InProcess())
    n = np.arange(N, dtype=np.int32)
    after = np.stack([n + 1, n + 2], axis=1)
    after[after >= N] = -1
    follows = Neighbours(after, np.where(after < 0, 0, [[0.5, 0.25]]).astype(np.float32))
    together = Neighbours((n - 1)[:, None], np.where(n > 0, 1.0, 0.0).astype(np.float32)[:, None])
    model = Model(replace(bundle, follows=follows, together=together), catalogue)
    model.absorb(model.stale())
    return model


def ask(catalogue: Catalogue, *item_ids: str, mask: np.ndarray = EVERYTHING, n: int = 10, **facts: object) -> Ask:
    user = make_user("u1", item_ids)
    rows = catalogue.rows(user.history.item_ids)
    return Ask(n=n, mask=mask, user=user, history=rows, **facts)  # type: ignore[arg-type]


def ids(catalogue: Catalogue, rows: np.ndarray) -> list[str]:
    return [str(item_id) for item_id in catalogue.ids[rows]]


def test_sequence_proposes_what_follows_the_newest_acts(model: Model, catalogue: Catalogue) -> None:
    [found] = Sequence(acts=2, decay=0.5).propose(model, [ask(catalogue, "i30", "i4", "i8")])
    assert ids(catalogue, found.rows) == ["i9", "i10", "i5", "i6"]  # 0.5, 0.25, 0.25, 0.125: ties by row
    np.testing.assert_allclose(found.score(catalogue.rows(["i9", "i6", "i31"])), [0.5, 0.125, 0.0])


def test_item_to_item_reads_more_of_the_history(model: Model, catalogue: Catalogue) -> None:
    [found] = ItemToItem(acts=3, decay=0.5).propose(model, [ask(catalogue, "i30", "i4", "i8", "i8")])
    assert ids(catalogue, found.rows) == ["i7", "i3"]
    np.testing.assert_allclose(found.score(catalogue.rows(["i7", "i3", "i29"])), [1.5, 0.25, 0.0])


def test_a_models_own_table_is_read_as_the_bundle_says(model: Model, catalogue: Catalogue) -> None:
    own = Model(replace(model.bundle, reading=Reading(acts=3, decay=0.5)), catalogue)
    own.absorb(own.stale())
    asked = ask(catalogue, "i30", "i4", "i8", "i8")
    for acts, decay in ((20, 0.9), (1, 1.0)):
        [found] = ItemToItem(acts, decay).propose(own, [asked])
        np.testing.assert_allclose(found.score(catalogue.rows(["i7", "i3", "i29"])), [1.5, 0.25, 0.0])


def test_a_query_of_zeros_finds_nothing_and_takes_nothing_from_the_others(model: Model, catalogue: Catalogue) -> None:
    vectors = model.vectors[[3, 3, 3]].copy()
    vectors[1] = 0.0
    found = nearest(model, vectors, [ask(catalogue, n=5) for _ in range(3)])
    assert [len(one.rows) for one in found] == [5, 0, 5]
    assert found[1].score(np.arange(N)).tolist() == [0.0] * N


def test_neighbours_that_are_not_allowed_are_left_out_but_keep_their_score(model: Model, catalogue: Catalogue) -> None:
    mask = EVERYTHING.copy()
    mask[catalogue.row("i9")] = False
    [found] = Sequence(acts=1).propose(model, [ask(catalogue, "i8", mask=mask)])
    assert ids(catalogue, found.rows) == ["i10"]
    assert found.score(catalogue.rows(["i9"])) == pytest.approx([0.5])


@pytest.mark.parametrize("history", [(), ("never heard of",)])
def test_without_a_known_history_nothing_follows(model: Model, catalogue: Catalogue, history: tuple[str, ...]) -> None:
    for source in (Sequence(), ItemToItem()):
        [found] = source.propose(model, [ask(catalogue, *history)])
        assert len(found.rows) == 0
        assert found.score(np.arange(N)).tolist() == [0.0] * N


def test_tower_proposes_the_nearest_and_scores_are_cosines(model: Model, catalogue: Catalogue) -> None:
    asks = [ask(catalogue, "i1", "i2", n=N), ask(catalogue, n=5)]
    found = Tower().propose(model, asks)
    vectors = model.users(asks)
    for one, vector, n in zip(found, vectors, (N, 5), strict=True):
        cosines = model.vectors[:N] @ vector
        np.testing.assert_allclose(one.score(np.arange(N)), cosines, atol=1e-5)
        np.testing.assert_allclose(cosines[one.rows], np.sort(cosines)[::-1][:n], atol=1e-5)


def test_asks_with_different_masks_are_answered_each_by_its_own(model: Model, catalogue: Catalogue) -> None:
    even = np.arange(N) % 2 == 0
    asks = [ask(catalogue, n=7, mask=even), ask(catalogue, n=9), ask(catalogue, n=30, mask=~even)]
    found = nearest(model, model.vectors[[3, 3, 3]], asks)
    assert [len(one.rows) for one in found] == [7, 9, 20]
    assert set(found[0].rows % 2) == {0}
    assert set(found[2].rows % 2) == {1}


def test_the_user_tower_sees_the_newest_act_last_and_unknown_items_not_at_all(
    model: Model, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, np.ndarray] = {}

    class Recording:
        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            given.update(inputs)
            return {"vector": np.zeros((len(inputs["ids"]), 128), np.float32)}

    watched = Model(replace(model.bundle, user_tower=Recording()), catalogue)
    watched.absorb(watched.stale())
    context = Context(surface="home", at=STATS_AT)
    asked = ask(catalogue, "i1", "unknown", "i3", context=context)  # click, click, rating of 4
    watched.users([asked, ask(catalogue)])
    codes = {kind: place + 1 for place, kind in enumerate(EventType)}
    assert given["history_types"][0, -2:].tolist() == [codes[EventType.CLICK], codes[EventType.RATING]]
    assert not given["history_types"][0, :-2].any()
    np.testing.assert_array_equal(given["history"][0, -1], model.vectors[catalogue.row("i3")])
    np.testing.assert_allclose(given["history_values"][0, -2:], [0.0, (4.0 - 3.5) / 1.1], rtol=1e-6)
    assert not given["history"][1].any()
    view = UserView(asked.user, context, catalogue.get)
    np.testing.assert_array_equal(given["ids"][0], model.bundle.user_schema.encode([view])[0][0])


def test_a_long_history_is_read_to_its_last_fifty(model: Model, catalogue: Catalogue) -> None:
    long, short = [f"i{n % N}" for n in range(70)], [f"i{n % N}" for n in range(70)][-HISTORY:]
    one, other = model.users([ask(catalogue, *long), ask(catalogue, *short)])
    assert one.shape == other.shape == (128,)


def test_trending_is_by_recent_acts_and_ends_with_items_nobody_acted_on(model: Model, catalogue: Catalogue) -> None:
    fuller = Catalogue()
    fuller.upsert([*make_items(N), Item("new 1"), Item("new 2")])
    own = Model(model.bundle, fuller)
    own.absorb(own.stale())
    [found] = Trending().propose(own, [ask(fuller, n=100, mask=np.ones(N + 2, np.bool_))])
    recent = {item_id: float(x) for item_id, x in zip(own.bundle.item_ids, own.bundle.recent, strict=True)}
    worth = [recent.get(item_id, 0.0) for item_id in ids(fuller, found.rows)]
    assert worth == sorted(worth, reverse=True)
    assert ids(fuller, found.rows)[-2:] == ["new 2", "new 1"]
    np.testing.assert_allclose(found.score(found.rows), np.log1p(worth), rtol=1e-5)


@settings(deadline=None)
@given(
    open_rows=st.lists(st.booleans(), min_size=N, max_size=N),
    n=st.integers(0, N),
    order=st.permutations(list(range(N + 5))),
)
def test_the_first_of_an_order_are_the_first_allowed(open_rows: list[bool], n: int, order: list[int]) -> None:
    asked = Ask(n=n, mask=np.asarray(open_rows))
    expected = [row for row in order if row < N and open_rows[row]][:n]
    assert first(asked, np.asarray(order), n).tolist() == expected


def test_fresh_is_the_newest_first_of_what_there_was_at_the_moment(model: Model) -> None:
    catalogue = Catalogue()
    ages = {"today": 0, "last month": 30, "tomorrow": -1, "old": 4000}
    born = [Item(name, created_at=STATS_AT - timedelta(days=days)) for name, days in ages.items()]
    catalogue.upsert([*born, Item("without a date")])
    fresh, mask = Fresh(catalogue), np.ones(5, np.bool_)
    fresh.absorb(np.arange(5))
    [now] = fresh.propose(model, [ask(catalogue, mask=mask, context=Context(at=STATS_AT))])
    assert ids(catalogue, now.rows) == ["today", "last month", "old"]
    np.testing.assert_allclose(now.score(np.arange(5)), [1, 0.5, 0, 0, 0], atol=1e-6)
    [whenever] = fresh.propose(model, [ask(catalogue, mask=mask)])
    assert ids(catalogue, whenever.rows)[0] == "tomorrow"


def test_fresh_keeps_no_more_than_the_newest(model: Model, catalogue: Catalogue) -> None:
    fresh = Fresh(catalogue, keep=5)
    fresh.absorb(np.arange(N))
    [found] = fresh.propose(model, [ask(catalogue, n=20)])
    assert ids(catalogue, found.rows) == ["i0", "i1", "i2", "i3", "i4"]
    assert Fresh(Catalogue()).propose(model, [ask(catalogue)])[0].rows.tolist() == []


# ---------------------------------------------------------------------------------------------- text


def library() -> tuple[Catalogue, Text]:
    catalogue = Catalogue()
    catalogue.upsert(
        [
            Item("a", "The Red Balloon", description="A boy and a balloon in Paris"),
            Item("b", "Red Sparrow", categories=("Thriller",)),
            Item("c", "Ballooning for beginners", brand="Red Press"),
            Item("d", "Amélie", description="Paris again", attributes={"colour": "green"}),
        ]
    )
    text = Text(catalogue)
    text.absorb(np.arange(4))
    return catalogue, text


def found_by(catalogue: Catalogue, text: Text, query: str, n: int = 10, mask: np.ndarray | None = None) -> list[str]:
    mask = np.ones(len(catalogue), np.bool_) if mask is None else mask
    return ids(catalogue, text._propose(Ask(n=n, mask=mask, query=query)).rows)


@pytest.mark.parametrize(
    ("query", "first_ones"),
    [
        ("red balloon", ["a"]),
        ("BALLOONS", ["c", "a"]),  # stems; a shorter title says more
        ("amelie", ["d"]),  # accents
        ("thriller", ["b"]),
        ("green", ["d"]),
        ("nothing like it", []),
    ],
)
def test_text_finds_items_by_their_words(query: str, first_ones: list[str]) -> None:
    assert found_by(*library(), query)[: len(first_ones)] == first_ones


def test_when_no_item_has_all_words_any_of_them_will_do() -> None:
    catalogue, text = library()
    assert set(found_by(catalogue, text, "sparrow paris")) == {"a", "b", "d"}
    assert found_by(catalogue, text, "red balloon", n=1) == ["a"]


def test_text_respects_the_mask() -> None:
    catalogue, text = library()
    assert found_by(catalogue, text, "red", mask=catalogue.ids != "a") == ["b", "c"]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60))
def test_no_query_breaks_the_search(query: str) -> None:
    catalogue, text = library()
    assert set(found_by(catalogue, text, query)) <= {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    "query", ['"', "red AND", "NEAR(red, 5)", "title:red", "red*", "(", "red' OR 1=1 --", "^red", "-"]
)
def test_the_search_languages_own_words_are_only_words(query: str) -> None:
    assert "a" in found_by(*library(), query) or "red" not in query


def test_an_item_that_changes_is_found_by_its_new_words_only() -> None:
    catalogue, text = library()
    text.absorb(catalogue.upsert([Item("b", "Blue Sparrow"), Item("e", "Sparrow hawk")]))
    assert found_by(catalogue, text, "thriller") == []
    assert set(found_by(catalogue, text, "sparrow")) == {"b", "e"}


@pytest.mark.parametrize("query", ["red sparrow", "RED, sparrow!", "Réd Sparrow"])
def test_the_item_with_exactly_this_title_scores_at_least_twice_as_much_as_any_other(query: str) -> None:
    catalogue, text = library()
    rows = catalogue.upsert([Item("e", "Red Sparrow: red sparrow, red sparrow", description="Red sparrow " * 9)])
    text.absorb(rows)
    found = text._propose(Ask(n=10, mask=np.ones(len(catalogue), np.bool_), query=query))
    scores = found.score(found.rows)
    assert ids(catalogue, found.rows)[0] == "b"
    assert scores[0] >= 2 * scores[1:].max() > 0


def test_a_title_of_common_words_is_found_however_old_it_is() -> None:
    catalogue = Catalogue()
    catalogue.upsert([Item("old", "Common")])
    catalogue.upsert(Item(f"x{n}", f"common word {n}") for n in range(MAX_MATCHES + 500))
    text = Text(catalogue)
    text.absorb(np.arange(len(catalogue)))
    assert found_by(catalogue, text, "common", n=3)[0] == "old"
    text.absorb(catalogue.upsert([Item("old", "Renamed")]))
    assert "old" not in found_by(catalogue, text, "common", n=3)


def test_items_without_a_title_are_called_nothing() -> None:
    catalogue = Catalogue()
    catalogue.upsert([Item("none"), Item("signs", "!!!"), Item("word", "word")])
    text = Text(catalogue)
    text.absorb(np.arange(3))
    assert found_by(catalogue, text, "???") == []
    assert found_by(catalogue, text, "word") == ["word"]


def test_a_word_that_everything_has_costs_no_more_than_the_limit(model: Model, tmp_path: Path) -> None:
    catalogue = Catalogue()
    catalogue.upsert(Item(f"x{n}", "common word") for n in range(MAX_MATCHES + 500))
    text = Text(catalogue)
    text.absorb(np.arange(len(catalogue)))
    rows, scores = text._match('"common"')
    assert len(rows) == len(scores) == MAX_MATCHES
    assert rows[-1] == len(catalogue) - 1
    assert (np.diff(rows) > 0).all()


def test_again_proposes_what_was_acted_on_before_most_often_first(model: Model, catalogue: Catalogue) -> None:
    one = ask(catalogue, "i3", "i8", "i3", "i5", "i8", "i3", seen=catalogue.rows(["i3", "i5", "i8", "i20"]))
    [found] = Again(remembered=0.5).propose(model, [one])
    assert ids(catalogue, found.rows) == ["i3", "i8", "i5", "i20"]
    np.testing.assert_allclose(found.score(catalogue.rows(["i3", "i8", "i5", "i20", "i9"])), [3, 2, 1, 0.5, 0])


def test_again_is_silent_where_seen_items_must_not_come_back(model: Model, catalogue: Catalogue) -> None:
    [found] = Again().propose(model, [ask(catalogue, "i3", "i3")])
    assert len(found.rows) == 0
    assert found.score(np.arange(N)).tolist() == [0.0] * N


def test_again_leaves_out_what_was_dismissed_or_is_not_allowed(model: Model, catalogue: Catalogue) -> None:
    mask = EVERYTHING.copy()
    mask[catalogue.row("i5")] = False
    one = ask(catalogue, "i3", "i5", "i8", mask=mask, seen=catalogue.rows(["i3", "i5", "i8"]))
    types = np.array([EventType.PURCHASE, EventType.PURCHASE, EventType.DISMISS])
    history = replace(one.user.history, types=types.astype(one.user.history.types.dtype))
    [found] = Again().propose(model, [replace(one, user=replace(one.user, history=history))])
    assert ids(catalogue, found.rows) == ["i3"]
    assert found.score(catalogue.rows(["i8"])).tolist() == [0.0]
