"""Lists for the ranker: what they hold, what they must not know, and that a kill loses nothing."""

from __future__ import annotations

import asyncio
import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.counting_retrieval import CountingRetrieval
from tests.homes import SMALL, small_home
from tests.training.shops import shop
from tests.training.worlds import START_S, Killed, ShuffledRetrieval, colour_world, dataset_of
from training import impressions
from training.dataset import Dataset, load
from training.impressions import Impressions, build
from training.lists import Asker, ImpressionSettings, Lists, thinned
from training.moments import moments
from training.ranker_schemas import fit_schemas, item_views
from training.split import Split, split
from winnow.acts import CODES
from winnow.candidate_features import ACTED
from winnow.errors import FailedPrecondition

SETTINGS = ImpressionSettings(candidates=40, top=4, negatives=12, batch=16)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Split, CountingRetrieval]:
    path: Path = tmp_path_factory.mktemp("world")
    dataset = load(small_home(path / "home", replace(SMALL, people=40, events=1500)))
    parts = split(dataset, "serve")
    return dataset, parts, CountingRetrieval(dataset, parts.train, path / "bundle")


@pytest.fixture(scope="module")
def built(world: tuple[Dataset, Split, CountingRetrieval], tmp_path_factory: pytest.TempPathFactory) -> Impressions:
    dataset, parts, retrieval = world
    path = tmp_path_factory.mktemp("lists")
    return asyncio.run(build(dataset, parts, retrieval, retrieval.bundle, path, SETTINGS))


def same(a: Lists, b: Lists) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=True) for f in fields(Lists))


def test_every_list_for_training_order_holds_its_right_answer_once(built: Impressions) -> None:
    lists = built.rank
    assert len(lists) > 50
    assert lists.listed.all()
    assert (np.add.reduceat(lists.click, lists.starts[:-1]) == 1).all()
    assert (lists.weight[lists.click] == 1.0).all()
    assert np.diff(lists.starts).max() <= SETTINGS.negatives + 1


def test_whole_lists_for_calibration_include_those_without_a_right_answer(built: Impressions) -> None:
    lists = built.calibrate
    assert (lists.weight == 1.0).all()
    assert 0 < lists.listed.mean() < 1
    assert np.diff(lists.starts).max() == SETTINGS.candidates
    log_rank = built.facts["candidates"].index("log_rank")
    assert not set(ACTED) & set(built.facts["candidates"]), "nobody acts on the same thing again"
    assert np.allclose(np.expm1(lists.candidates[: lists.starts[1], log_rank]), np.arange(lists.starts[1]), atol=1e-3)


def test_labels_say_what_the_act_was(world: tuple[Dataset, Split, CountingRetrieval], built: Impressions) -> None:
    dataset, parts, _ = world
    expected = [m for m in moments(dataset, parts).calibrate if m.outcomes]
    lists = built.calibrate
    assert len(lists) == len(expected)
    for n, moment in enumerate(expected):
        rows = slice(lists.starts[n], lists.starts[n + 1])
        [(item, outcome)] = moment.outcomes.items()
        right = lists.item[rows] == item
        assert np.array_equal(lists.click[rows], right)
        assert (lists.convert[rows][right] == outcome.convert).all()
        assert np.allclose(lists.value[rows][right], outcome.value)
        assert not lists.convert[rows][~right].any()


def test_a_purchase_is_worth_its_price_times_its_quantity_and_a_dismissal_is_no_moment(
    world: tuple[Dataset, Split, CountingRetrieval],
) -> None:
    dataset, parts, _ = world
    acts, found = dataset.acts, moments(dataset, parts)
    bought = [m for m in (*found.rank, *found.calibrate) if acts.type[m.before] == CODES["purchase"]]
    assert bought
    for moment in bought:
        [(item, outcome)] = moment.outcomes.items()
        price = float(acts.value[moment.before])
        price = dataset.items[item].price or 0.0 if math.isnan(price) else price
        assert outcome.value == pytest.approx(price * int(acts.quantity[moment.before]))
        assert outcome.convert
    assert not any(acts.type[m.before] == CODES["dismiss"] for m in (*found.rank, *found.calibrate))


async def test_what_happens_later_changes_nothing(tmp_path: Path) -> None:
    """A row of the future, planted behind everything: lists, people and items of all earlier moments stay as they were."""
    before = colour_world(tmp_path / "before", people=12, acts=20)
    acts = before.acts
    log = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(acts) + 3)],
            "type": "rating",
            "user_id": [before.people[row].user_id for row in acts.user] + ["u0", "u1", "u2"],
            "item_id": [before.item_ids[row] for row in acts.item] + ["i0", "i0", "i89"],
            "value": [*acts.value.tolist(), 5.0, 5.0, 1.0],
            "occurred_at": [*acts.at.tolist(), *(START_S + 1e7 + n for n in range(3))],
        }
    )
    items = pl.DataFrame(
        [{"item_id": item.item_id, "title": item.title, "categories": list(item.categories)} for item in before.items]
    )
    people = zip(before.people, before.traits, strict=True)
    users = pl.DataFrame([{"user_id": who.user_id, "traits.gender": traits["gender"]} for who, traits in people])
    after = dataset_of(tmp_path / "after", log, items, users)
    parts = split(before, "serve")
    longer = Split(
        *(
            np.concatenate([m, [n == 2] * 3])
            for n, m in enumerate((parts.train, parts.rank, parts.calibrate, parts.test))
        )
    )
    found = []
    for name, dataset, split_ in (("a", before, parts), ("b", after, longer)):
        retrieval = ShuffledRetrieval(dataset, split_.train, tmp_path / name)
        found.append(await build(dataset, split_, retrieval, retrieval.bundle, tmp_path / f"{name}-lists", SETTINGS))
    first, second = found
    assert same(first.rank, second.rank)
    kept = len(first.calibrate)
    assert len(second.calibrate) == kept + 3
    assert np.array_equal(first.calibrate.user_ids, second.calibrate.user_ids[:kept])
    assert np.array_equal(first.calibrate.candidates, second.calibrate.candidates[: len(first.calibrate.item)])
    assert np.array_equal(first.item_ids, second.item_ids)
    assert np.array_equal(first.item_numbers, second.item_numbers)


async def test_a_killed_build_goes_on_where_it_was_and_ends_the_same(
    world: tuple[Dataset, Split, CountingRetrieval], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, parts, _ = world
    monkeypatch.setattr(impressions, "CHUNK", 32)
    whole = ShuffledRetrieval(dataset, parts.train, tmp_path / "bundle")
    expected = await build(dataset, parts, whole, whole.bundle, tmp_path / "whole", SETTINGS)
    killed = ShuffledRetrieval(dataset, parts.train, tmp_path / "bundle", fails_after=100)
    with pytest.raises(Killed):
        await build(dataset, parts, killed, killed.bundle, tmp_path / "killed", SETTINGS)
    again = ShuffledRetrieval(dataset, parts.train, tmp_path / "bundle")
    resumed = await build(dataset, parts, again, again.bundle, tmp_path / "killed", SETTINGS)
    assert again.asked < whole.asked - 60
    assert same(expected.rank, resumed.rank)
    assert same(expected.calibrate, resumed.calibrate)
    asked = again.asked
    await build(dataset, parts, again, again.bundle, tmp_path / "killed", SETTINGS)
    assert again.asked == asked, "finished lists are not asked for again"


async def test_another_bundle_than_the_one_served_is_refused(
    world: tuple[Dataset, Split, CountingRetrieval], tmp_path: Path
) -> None:
    dataset, parts, retrieval = world
    other = replace(retrieval.bundle, id="other")
    with pytest.raises(FailedPrecondition, match="retrieval serves bundle"):
        await build(dataset, parts, retrieval, other, tmp_path, SETTINGS)


def test_thinning_keeps_every_total_in_expectation() -> None:
    right = np.zeros(200, np.bool_)
    right[57] = True
    numbers = np.random.default_rng(1).gamma(2.0, 1.0, 200)
    totals, sizes = [], []
    for seed in range(400):
        kept, weights = thinned(right, ImpressionSettings(), np.random.default_rng(seed))
        assert set(range(8)) | {57} <= set(kept.tolist())
        assert len(kept) == 33
        totals.append(float(numbers[kept] @ weights))
        sizes.append(float(weights.sum()))
    assert np.allclose(sizes, 200.0)
    assert np.mean(totals) == pytest.approx(numbers.sum(), rel=0.01)


def test_features_that_need_a_clock_are_left_out_where_there_is_only_an_order(
    world: tuple[Dataset, Split, CountingRetrieval], built: Impressions
) -> None:
    dataset, parts, retrieval = world
    views, rank = item_views(dataset, retrieval.bundle), moments(dataset, parts).rank
    ordered = fit_schemas(replace(dataset, clock="order"), views, rank, 1000)
    assert "context_hour" in built.schemas.user.names
    assert not {"context_hour", "context_weekday", "user_log_days_since_last"} & set(ordered.user.names)


async def test_what_a_newcomer_really_had_is_not_in_their_list_where_nobody_acts_again(
    world: tuple[Dataset, Split, CountingRetrieval], built: Impressions
) -> None:
    """Else the ranker would learn that what a person likes is wrong for them."""
    dataset, parts, retrieval = world
    dataset = replace(dataset, protocol="leave-one-out")
    young = [moment for moment in moments(dataset, parts).rank if moment.kept is not None]
    asker = Asker(dataset, retrieval, retrieval.bundle, built.schemas.user, SETTINGS)
    await asker.start(young[0])
    lists = await asker.lists(young, "calibrate", np.random.default_rng(0))
    assert len(lists) == len(young)
    for n, moment in enumerate(young):
        listed = lists.item[lists.starts[n] : lists.starts[n + 1]]
        own = dataset.acts_of(moment.person)
        assert not np.isin(listed, dataset.acts.item[own[own < moment.before]]).any()


async def test_logged_requests_are_lists_of_their_own(tmp_path: Path) -> None:
    """What was shown is a list, clicked or not; the act that answers it is no moment of its own."""
    rows = []
    for n in range(200):
        user, at = f"u{n % 10}", START_S + 600.0 * n
        for place in range(3):
            item = f"i{(n + place) % 20}"
            rows.append(("impression", user, item, at, f"r{n}", place + 1))
        if n % 2:
            rows.append(("click", user, f"i{(n + 1) % 20}", at + 30.0, "", None))
    events = pl.DataFrame(rows, ["type", "user_id", "item_id", "occurred_at", "request_id", "position"], orient="row")
    events = events.with_row_index("event_id").with_columns(pl.format("e{}", "event_id").alias("event_id"))
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(20)], "title": [f"t{n}" for n in range(20)]})
    users = pl.DataFrame({"user_id": ["u0"], "traits.gender": ["F"]})
    dataset = dataset_of(tmp_path / "home", events, items, users)
    parts = split(dataset, "serve")
    retrieval = ShuffledRetrieval(dataset, parts.train, tmp_path / "bundle")
    found = await build(dataset, parts, retrieval, retrieval.bundle, tmp_path / "lists", SETTINGS)
    for lists in (found.rank, found.calibrate):
        assert len(lists) > 5
        assert (np.diff(lists.starts) == 3).all()
        assert 0.3 < lists.listed.mean() < 0.7
        assert lists.click.sum() == lists.listed.sum()
    cut = dataset.acts.at[parts.rank].min()
    assert all(moment.at >= cut - 1200 for moment in moments(dataset, parts).rank)
    assert datetime.fromtimestamp(cut, UTC) > datetime.fromtimestamp(START_S, UTC) + timedelta(hours=20)


async def lists_of_a_shop(path: Path) -> tuple[Dataset, Split, Impressions]:
    dataset = load(shop(path / "home", people=10, baskets=3))
    parts = split(dataset, "serve")
    retrieval = CountingRetrieval(dataset, parts.train, path / "bundle")
    settings = replace(SETTINGS, candidates=60)
    return dataset, parts, await build(dataset, parts, retrieval, retrieval.bundle, path / "lists", settings)


async def test_where_people_buy_again_the_ranker_is_told_what_they_bought(tmp_path: Path) -> None:
    """As a state of that moment has it: the basket that is the answer is not in it."""
    dataset, parts, found = await lists_of_a_shop(tmp_path)
    names, lists = found.facts["candidates"], found.calibrate
    assert tuple(names[-3:]) == ACTED
    asked = moments(dataset, parts).calibrate
    assert len(lists) == len(asked)
    for n, moment in enumerate(asked):
        rows = slice(lists.starts[n], lists.starts[n + 1])
        ids = dataset.item_ids[lists.item[rows]]
        history = moment.state(dataset).history.item_ids.tolist()
        told = np.expm1(lists.candidates[rows, names.index("acted:count")])
        assert np.allclose(told, [history.count(item_id) for item_id in ids], atol=1e-4)
    assert (lists.candidates[:, -3:] > 0).any(axis=0).all()


async def test_where_people_buy_again_half_of_the_questions_leave_out_what_they_had(tmp_path: Path) -> None:
    _, _, found = await lists_of_a_shop(tmp_path)
    order, lists = found.facts["candidates"].index("acted:order"), found.rank
    bought = np.add.reduceat(lists.candidates[:, order] > 0, lists.starts[:-1])
    new_ones = lists.click & (lists.candidates[:, order] == 0)
    assert 0.3 < (bought > 0).mean() < 0.8
    assert new_ones[np.repeat(bought == 0, np.diff(lists.starts))].sum() > 0, "what is right there is new"
