"""A refresh: the same towers, everything else as of today; and what is rewound knows no answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from services.ranking import build as ranking_build
from services.ranking.settings import Settings as RankingSettings
from services.retrieval import build as retrieval_build
from services.retrieval.bundle import load as load_for_serving
from services.retrieval.service import RetrievalService
from services.retrieval.settings import Settings
from tests.bundles import tiny_ranking_bundle
from tests.refreshes import append, clicks
from tests.refreshes import trained as as_trained
from tests.training.worlds import START_S, colour_world
from training.dataset import Dataset, load
from training.impressions import Impressions, build
from training.lists import ImpressionSettings, Lists
from training.refresh import made_again, refresh
from training.split import Split, split
from winnow.artifacts import REFRESH_OF, Bundle, file_hashes
from winnow.catalogue import Catalogue
from winnow.errors import FailedPrecondition
from winnow.inference import InProcess
from winnow.ports import RankQuery, RetrieveQuery
from winnow.types import Context, Event, EventType, Item

ROOT = Path(__file__).parents[2]
LISTS = ImpressionSettings(candidates=40, top=4, negatives=12, batch=16)
NOW = START_S + 10_000_000.0
NEW = Item("brand-new", title="Thing of today", categories=("green",), price=2.0)
CHANGED = Item("i3", title="Now blue", categories=("blue",))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def before(home: Path) -> Dataset:
    """The log as it was when the towers were trained."""
    return colour_world(home, people=40, acts=15)


@pytest.fixture(scope="module")
def parts(before: Dataset) -> Split:
    return split(before, "serve")


@pytest.fixture(scope="module")
def trained(before: Dataset, parts: Split, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return as_trained(before, parts, tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def today(home: Path, before: Dataset, trained: Bundle) -> Dataset:
    """A day later: a new item that twenty people acted on, and a changed one."""
    append(home, clicks(20, 100_000), [NEW, CHANGED])
    return load(home)


@pytest.fixture(scope="module")
def fresh(trained: Bundle, today: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = refresh(trained, today, tmp_path_factory.mktemp("refreshed"), NOW)
    assert made is not None
    assert (made.new_items, made.changed_items) == (1, 1)
    assert made.new_acts == len(today.acts) - trained.data["acts"]
    return made.bundle


def test_the_towers_are_the_champions_and_all_else_is_todays(trained: Bundle, today: Dataset, fresh: Bundle) -> None:
    for name in ("item_tower.onnx", "user_tower.onnx", "vocabularies.json", "samples.npz"):
        assert file_hashes(fresh)[name] == file_hashes(trained)[name]
    loaded, old = load_for_serving(fresh, InProcess()), load_for_serving(trained, InProcess())
    assert loaded.item_ids == [item.item_id for item in today.items]
    place = {item_id: n for n, item_id in enumerate(loaded.item_ids)}
    same = [item_id for item_id in old.item_ids if item_id != "i3"]
    assert np.array_equal(
        loaded.vectors[[place[i] for i in same]], old.vectors[[old.item_ids.index(i) for i in same]]
    ), "an item that did not change keeps its vector"
    assert not np.array_equal(loaded.vectors[place["i3"]], old.vectors[old.item_ids.index("i3")])
    assert loaded.count[place["brand-new"]] == 20
    assert place["brand-new"] in loaded.follows.places[place["i1"]], "what followed is counted up to today"
    assert fresh.facts["stats_at"] == today.acts.at.max()
    assert fresh.data[REFRESH_OF] == trained.id
    assert fresh.data["snapshot"] == today.snapshot


def test_a_refresh_of_a_refresh_knows_its_trained_bundle_and_nothing_changed_is_nothing_done(
    trained: Bundle, today: Dataset, fresh: Bundle, tmp_path: Path
) -> None:
    assert refresh(fresh, today, tmp_path, NOW) is None
    assert refresh(fresh, replace(today, snapshot="shown once more"), tmp_path, NOW) is None, "only impressions are new"
    again = refresh(trained, today, tmp_path, NOW)
    assert again is not None
    assert again.bundle.id == fresh.id, "the same inputs give the same bundle"
    second = made_again(fresh, today, today.acts.at < START_S + 90_000, tmp_path)
    assert second.data[REFRESH_OF] == trained.id


def test_a_click_with_a_wrong_clock_makes_nothing_look_old(home: Path, fresh: Bundle, tmp_path: Path) -> None:
    """An act of the year 2100: statistics decay towards the newest act that has happened, not towards that one."""
    copied = tmp_path / "home"
    subprocess.run(["cp", "-r", str(home), str(copied)], check=True)
    append(copied, [Event("later", EventType.CLICK, "i5", datetime(2100, 1, 1, tzinfo=UTC), "u1")], [])
    made = refresh(fresh, load(copied), tmp_path / "bundles", NOW)
    assert made is None, "the act has not happened, so nothing changed"


@contextmanager
def serving(dataset: Dataset, bundle: Bundle) -> Iterator[RetrievalService]:
    catalogue = Catalogue()
    catalogue.upsert(dataset.items)
    with closing(retrieval_build.build(Settings(), catalogue)) as service:
        service.use(retrieval_build.load_bundle(service, bundle))
        yield service


def lists_over(dataset: Dataset, parts: Split, bundle: Bundle, folder: Path) -> Impressions:
    with serving(dataset, bundle) as service:
        return asyncio.run(build(dataset, parts, service, bundle, folder, LISTS))


def same(a: Lists, b: Lists, moments: int) -> bool:
    """The lists of the first moments are equal in every column."""
    rows = int(a.starts[moments])
    until = {"starts": moments + 1, "user_ids": moments, "user_numbers": moments}
    columns = [(getattr(a, f.name), getattr(b, f.name), until.get(f.name, rows)) for f in fields(Lists)]
    return all(np.array_equal(one[:end], other[:end], equal_nan=True) for one, other, end in columns)


def test_a_row_of_the_future_reaches_no_list_that_the_ranker_learns_from(
    home: Path, before: Dataset, parts: Split, trained: Bundle, tmp_path: Path
) -> None:
    """Through all of it: rows are planted in the log behind everything, retrieval is refreshed over them, so that it
    proposes what they say, and lists for the ranker are asked of what was promoted."""
    copied = tmp_path / "home"
    subprocess.run(["cp", "-r", str(home), str(copied)], check=True)
    for live in (copied / "log").glob("*/live-*"):
        live.unlink()
    first = lists_over(before, parts, trained, tmp_path / "first")
    append(copied, clicks(30, 200_000, "i80"), [])
    planted = load(copied)
    more = len(planted.acts) - len(before.acts)
    masks = (parts.train, parts.rank, parts.calibrate, parts.test)
    longer = Split(*(np.concatenate([mask, np.full(more, n == 2)]) for n, mask in enumerate(masks)))
    leaking = refresh(trained, planted, tmp_path / "bundles", NOW)
    assert leaking is not None
    back = made_again(leaking.bundle, planted, longer.train, tmp_path / "bundles")
    second = lists_over(planted, longer, back, tmp_path / "second")
    assert same(first.rank, second.rank, len(first.rank))
    assert same(first.calibrate, second.calibrate, len(first.calibrate))
    assert np.array_equal(first.item_numbers, second.item_numbers)
    with_answers = lists_over(planted, longer, leaking.bundle, tmp_path / "third")
    assert not np.array_equal(with_answers.rank.candidates, second.rank.candidates), "else this test could not fail"


async def test_the_ranker_answers_over_a_refresh(today: Dataset, fresh: Bundle, tmp_path: Path) -> None:
    """A ranking bundle names the retrieval that it was trained over, and takes the candidates of another."""
    (tmp_path / "ranking").mkdir()
    catalogue = Catalogue()
    catalogue.upsert(today.items)
    with (
        serving(today, fresh) as retrieval,
        closing(ranking_build.build(RankingSettings(), catalogue)) as ranking,
    ):
        ranking.use(ranking_build.load_bundle(ranking, tiny_ranking_bundle(tmp_path / "ranking", today.items)))
        user = today.state(0, len(today.acts))
        [found] = await retrieval.retrieve([RetrieveQuery(user, 50)])
        [predicted] = await ranking.rank([RankQuery(user, found, Context())])
    assert found.bundle == fresh.id
    assert len(predicted.scores) == len(found) == 50
    assert np.isfinite(predicted.heads).all()


def test_towers_of_another_release_are_not_guessed_at(trained: Bundle, today: Dataset, tmp_path: Path) -> None:
    other = replace(trained, facts={**trained.facts, "event_types": ["click", "impression"]})
    with pytest.raises(FailedPrecondition, match="winnow retrain"):
        refresh(other, today, tmp_path, NOW)


def test_a_refresh_needs_no_torch() -> None:
    code = "import sys, training.refresh, training.gate, training.split, cli.refresh; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
