"""A request with words: they lead the order beside the models, and nothing changes without them."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import build
from services.gateway.arrange import arrange, weigh_words
from services.gateway.recommender import Gateway
from services.gateway.settings import Settings
from services.ranking.service import RankingService
from services.retrieval.service import RetrievalService
from tests.bundles import tiny_ranking_bundle, tiny_retrieval_bundle
from tests.gateways import Inner
from tests.homes import small_home
from tests.retrievals import Shop
from training.data.generated import World
from training.dataset import load
from winnow.decisions import Decision
from winnow.requests import Answer, RecommendRequest
from winnow.types import TEXT, Candidates, Person, Predictions, strings

WORLD = World(items=300, people=50, events=1_500, seed=7)
WEIGHT = Settings.model_fields["query_weight"].default


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A generated shop, and models with random weights: what they like has nothing to do with words."""
    folder = tmp_path_factory.mktemp("shop")
    items = load(small_home(folder / "home", WORLD)).items
    retrieval = tiny_retrieval_bundle(folder / "retrieval", items)
    return Shop(items, retrieval, tiny_ranking_bundle(folder / "ranking", items))


class Counter:
    """A gateway over real retrieval and ranking, and what it logged."""

    def __init__(self, shop: Shop, **settings: float) -> None:
        catalogue = shop.catalogue()
        catalogue.advance(len(shop.items), complete=True)
        self.retrieval: RetrievalService = shop.retrieve(catalogue)
        self.ranking: RankingService = shop.rank(catalogue)
        inner = Inner()
        chosen = Settings(retrieval_budget_ms=20_000, ranking_budget_ms=20_000).model_copy(update=settings)
        self.gateway: Gateway = build.build(chosen, catalogue, inner, self.retrieval, self.ranking, inner)
        self.logged: list[Decision] = []
        self.gateway.decisions.log = self.logged.append  # type: ignore[method-assign]

    async def ask(self, query: str = "", **more: object) -> Answer:
        wish = replace(RecommendRequest(Person(session_id="new"), query=query, n=5), **more)  # type: ignore[arg-type]
        [answer] = await self.gateway.recommend([wish])
        assert answer.skipped == ()
        return answer


@pytest.mark.parametrize("objectives", [{}, {"click": -1.0}, {"value": 1000.0}])
async def test_the_exact_title_of_an_item_puts_it_first(shop: Shop, objectives: dict[str, float]) -> None:
    counter = Counter(shop)
    wanted = random.Random(3).sample(list(shop.items), 20)
    for item in wanted:
        answer = await counter.ask(item.title.upper(), objectives=objectives)
        assert (answer.items[0].item_id, answer.items[0].item.title) == (item.item_id, item.title)
        assert TEXT in answer.items[0].sources
        assert answer.items[0].predictions is not None
        scores = [line.score for line in answer.items]
        assert scores == sorted(scores, reverse=True)


async def test_without_the_weight_the_models_alone_decide(shop: Shop) -> None:
    """The test above can fail."""
    counter = Counter(shop, query_weight=0)
    wanted = random.Random(3).sample(list(shop.items), 20)
    disliked = {"click": -1.0}  # random weights may like matches, so ask for the opposite of what they say
    first = [(await counter.ask(item.title, objectives=disliked)).items[0].item_id for item in wanted]
    assert sum(found == item.item_id for found, item in zip(first, wanted, strict=True)) < 5


async def test_among_items_that_match_alike_the_models_decide(shop: Shop) -> None:
    counter = Counter(shop)
    answer = await counter.ask("lamp", n=10)
    assert all("Lamp" in line.item.title for line in answer.items if line.item)
    [decision] = counter.logged
    assert decision.predictions is not None
    again = arrange(decision.candidates, decision.predictions, 0, 10)
    assert decision.candidates.item_ids[again].tolist() == [line.item_id for line in answer.items]


async def test_without_a_query_the_scores_are_the_models_own_to_the_bit(shop: Shop) -> None:
    logged = []
    for weight in (0.0, WEIGHT):
        counter = Counter(shop, query_weight=weight)
        ranked: list[Predictions] = []
        rank = counter.ranking.rank

        async def heard(queries: object, rank: object = rank, ranked: list[Predictions] = ranked) -> list[Predictions]:
            ranked += await rank(queries)  # type: ignore[operator]
            return ranked

        counter.ranking.rank = heard  # type: ignore[method-assign, assignment]
        await counter.ask()
        [one] = counter.logged
        assert one.predictions is ranked[0]
        logged.append((one.candidates.item_ids.tolist(), one.predictions.scores.tobytes(), one.rows.tolist()))
    assert logged[0] == logged[1]


def column(match: list[float], scores: list[float]) -> tuple[Candidates, Predictions]:
    ids = strings([f"i{n}" for n in range(len(match))])
    columns = np.stack([np.zeros(len(match)), match], axis=1).astype(np.float32)
    heads = np.zeros((len(match), 3), np.float32)
    found = Candidates(ids, np.ones(len(match), np.uint32), columns, ("tower", TEXT))
    return found, Predictions(heads, np.asarray(scores, np.float32), "k")


UNIT = st.floats(0, 1, width=32)
SCORE = st.floats(-1e4, 1e4, width=32)


@given(st.lists(st.tuples(st.floats(0, 0.5, width=32), SCORE), min_size=1, max_size=30), SCORE)
def test_a_match_twice_as_good_as_any_other_is_first_whatever_the_models_say(
    others: list[tuple[float, float]], own: float
) -> None:
    found, predicted = column([match for match, _ in others] + [1.0], [score for _, score in others] + [own])
    weighed = weigh_words(found, predicted, WEIGHT)
    assert weighed is not None
    assert int(np.argmax(weighed.scores)) == len(others) or np.ptp(predicted.scores) < 1e-2


@given(st.lists(st.tuples(UNIT, SCORE), min_size=1, max_size=30))
def test_of_two_that_match_alike_the_better_one_is_not_behind(rows: list[tuple[float, float]]) -> None:
    found, predicted = column([match for match, _ in rows], [score for _, score in rows])
    weighed = weigh_words(found, predicted, WEIGHT)
    assert weighed is not None
    for a, (match, score) in enumerate(rows):
        for b, (other, lower) in enumerate(rows):
            if match == other and score > lower:
                assert weighed.scores[a] >= weighed.scores[b]


@pytest.mark.parametrize("match", [[0.0, 0.0], []])
def test_where_nothing_matches_nothing_changes(match: list[float]) -> None:
    found, predicted = column(match, [1.0] * len(match))
    assert weigh_words(found, predicted, WEIGHT) is predicted
    assert weigh_words(found, None, WEIGHT) is None
    other = replace(found, source_names=("tower", "popular"))
    assert weigh_words(other, predicted, WEIGHT) is predicted


def test_where_the_models_see_no_difference_the_words_decide() -> None:
    found, predicted = column([0.1, 0.9, 0.5], [2.0, 2.0, 2.0])
    weighed = weigh_words(found, predicted, WEIGHT)
    assert weighed is not None
    assert np.argsort(-weighed.scores).tolist() == [1, 2, 0]


def test_the_field_is_documented() -> None:
    from services.gateway.bodies import RecommendIn

    assert "WINNOW_QUERY_WEIGHT" in RecommendIn.model_json_schema()["properties"]["query"]["description"]
