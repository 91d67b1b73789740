"""What a replay asks, when it hands over what is new, and how it sums up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.training.shops import MONTHS, shop
from training.baselines import Bought
from training.past import Past
from training.replay import (
    BOUGHT,
    HR,
    NDCG,
    NEVER,
    POPULARITY,
    RETRAINED,
    Month,
    answers,
    asked_in,
    columns,
    figures,
    moment_of,
    months,
    overall,
    references,
)
from winnow.errors import InvalidArgument
from winnow.features import DAY_S
from winnow.ports import RankQuery, RetrieveQuery
from winnow.types import Candidates, Item, Predictions, strings

MARCH = Month(2025, 3)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return Past(shop(tmp_path_factory.mktemp("shop"), plant=MONTHS[2]))


class Watchful:
    """Both stages: offers what it was given, newest first, and keeps what it was asked."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items, self.asked = {item.item_id: item for item in items}, list[tuple[RetrieveQuery, set[str]]]()
        self.retrieval = self.ranking = self

    async def take(self, items: Sequence[Item]) -> None:
        self.items |= {item.item_id: item for item in items}

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        self.asked += [(query, set(self.items)) for query in queries]
        return [self._offer() for _ in queries]

    def _offer(self) -> Candidates:
        ids = strings([*self.items][::-1])
        return Candidates(ids, np.ones(len(ids), np.uint32), np.zeros((len(ids), 1), np.float32), ("all",))

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        sizes = [len(query.candidates) for query in queries]
        return [Predictions(np.zeros((n, 3), np.float32), np.arange(n, dtype=np.float32)) for n in sizes]


async def test_each_question_knows_the_past_alone_and_what_came_is_there_the_day_after(past: Past) -> None:
    asked = asked_in(past.whole, MARCH)
    platform = Watchful(past.items(MARCH.start))
    found = await answers(past, MARCH, asked, platform, None, "")
    assert len(platform.asked) == len(asked) == 30
    came = {item.item_id: min_at(past, item.item_id) for item in past.items(MARCH.next().start)}
    for one, (query, offered) in zip(asked, platform.asked, strict=True):
        at = moment_of(one)
        assert query.context.at is not None
        assert query.context.at.timestamp() == at
        assert query.user.events == len(one.history) > 0
        assert (query.user.history.at < at).all()
        assert query.include_seen
        assert all(came[item_id] < at for item_id in offered if item_id.startswith("planted"))
        assert all(item_id in offered for item_id, first in came.items() if first < at - DAY_S)
    assert found.retrieved[-1].tolist() != found.ranked[-1].tolist()


def min_at(past: Past, item_id: str) -> float:
    row = past.whole.item_ids.tolist().index(item_id)
    acts = past.whole.acts
    return float(acts.at[acts.item == row].min(initial=np.inf))


def test_a_question_is_the_first_basket_of_a_person_in_the_month(past: Past) -> None:
    asked = asked_in(past.whole, MARCH)
    assert [moment_of(one) for one in asked] == sorted(map(moment_of, asked))
    for one in asked:
        acts = past.whole.acts
        own = acts.at[(acts.user == one.person) & (acts.at >= MARCH.start)]
        assert moment_of(one) == own.min()
        assert len(one.relevant) == 3


def test_references_know_nothing_of_the_month(past: Past) -> None:
    found = references(past.whole, MARCH, asked_in(past.whole, MARCH))
    later = {n for n, item_id in enumerate(past.whole.item_ids) if item_id.startswith("planted")}
    assert set(found) == {POPULARITY, BOUGHT}
    assert all(not later & set(place.tolist()) for place in found[POPULARITY])


def test_what_somebody_bought_before_comes_first_and_popularity_after() -> None:
    fitted = Bought().fit(np.array([0, 1, 1, 2, 2, 2]), np.array([0, 6]), 4)
    order = np.argsort(-fitted.scores([np.array([0, 0, 1])])[0])
    assert order.tolist() == [0, 1, 2, 3]


def test_the_whole_is_what_all_later_questions_say(past: Past) -> None:
    """Means and gain exactly; the error is that of the months, so it is never larger than that of all in one."""
    rng, every, found = np.random.default_rng(1), list[tuple[float, float]](), []
    for month in (Month(2025, 2), MARCH, Month(2025, 4)):
        asked = asked_in(past.whole, month)[: 10 * month.month]
        drawn = {name: [rng.permutation(len(past.whole.items))[:20] for _ in asked] for name in (RETRAINED, NEVER)}
        found.append(figures(month, asked, drawn))
        pairs = [columns(asked, drawn[name])[NDCG] for name in (RETRAINED, NEVER)]
        every += [*zip(*pairs, strict=True)] if month != Month(2025, 2) else []
    summed, (new, old) = overall(found), np.array(every).T
    assert summed["people"] == len(every)
    assert summed[NDCG][RETRAINED] == pytest.approx(new.mean(), abs=2e-6)
    gain, error = summed["gain"][NDCG]
    assert gain == pytest.approx((new - old).mean(), abs=2e-6)
    assert error == pytest.approx((new - old).std(ddof=1) / np.sqrt(len(new)), rel=0.2)
    assert overall(found[:1]) == {}
    assert 0 < summed[HR][NEVER] < 1


def test_months_are_those_of_the_log(past: Past) -> None:
    assert [*map(str, months(past.whole))] == ["2025-02", "2025-03", "2025-04"]
    assert [*map(str, months(past.whole, MARCH, most=1))] == ["2025-03"]
    for wrong in (Month(2025, 1), Month(2025, 5), Month(1999, 1)):
        with pytest.raises(InvalidArgument, match="2025-01 to 2025-04"):
            months(past.whole, wrong)
    with pytest.raises(InvalidArgument, match="2010-06"):
        Month.named("June")
