"""The table of what goes with what beside the towers: whose it is, how it is read, and what a refresh makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli.models import Workshop
from services.retrieval.bundle import load as load_for_serving
from tests.refreshes import append, clicks
from tests.refreshes import trained as as_trained
from tests.training.circles import circle_world
from tests.training.shops import shop
from tests.training.worlds import START_S
from training import companions as made
from training.companions import MADE_BY, companions, companions_again
from training.dataset import Dataset, load
from training.interactions import interactions_of
from training.models.ease import Ease, EaseSettings
from training.questions import questions
from training.refresh import made_again
from training.split import Split, split
from winnow.artifacts import TOGETHER, Bundle, file_hashes
from winnow.inference import InProcess
from winnow.types import HISTORY, Item

K = 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("circles")


@pytest.fixture(scope="module")
def circles(home: Path) -> Dataset:
    return circle_world(home)


@pytest.fixture(scope="module")
def parts(circles: Dataset) -> Split:
    return split(circles, "serve")


@pytest.fixture
def base(circles: Dataset, parts: Split, tmp_path: Path) -> Bundle:
    """A trained bundle whose table a refresh makes again."""
    bundle = as_trained(circles, parts, tmp_path)
    return replace(bundle, facts={**bundle.facts, TOGETHER: {"acts": HISTORY, "decay": 0.8, "made_by": MADE_BY}})


def test_the_table_is_eases_of_the_acts_that_teach(circles: Dataset, parts: Split) -> None:
    table = companions(circles, parts, K)
    assert table is not None
    model = Ease(EaseSettings(neighbours=K)).fit(interactions_of(circles, parts.train))
    assert all(np.array_equal(a, b) for a, b in zip(table.neighbours, model.serves().neighbours, strict=True))
    assert table.acts == HISTORY


def test_what_comes_in_order_is_read_from_the_newest_act_and_what_comes_in_baskets_from_all(
    circles: Dataset, parts: Split, tmp_path: Path
) -> None:
    in_order = companions(circles, parts, K)
    shopping = load(shop(tmp_path))
    in_baskets = companions(shopping, split(shopping, "serve"), K)
    assert in_order is not None
    assert in_baskets is not None
    assert in_order.decay == min(made.DECAYS)
    assert in_baskets.decay > in_order.decay


def test_without_anybody_to_ask_the_whole_history_counts(circles: Dataset, parts: Split) -> None:
    nobody = replace(parts, train=parts.train | parts.calibrate, calibrate=np.zeros_like(parts.calibrate))
    assert not questions(circles, replace(nobody, test=nobody.calibrate))
    table = companions(circles, nobody, K)
    assert table is not None
    assert table.decay == 1.0


def test_a_large_catalogue_keeps_the_count(circles: Dataset, parts: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "MOST_ITEMS", len(circles.items) - 1)
    assert companions(circles, parts, K) is None


def test_a_refresh_makes_the_table_again_with_what_is_new_and_reads_it_as_before(
    home: Path, base: Bundle, tmp_path: Path
) -> None:
    append(home, clicks(20, 100_000), [Item("brand-new", title="Stop 99", categories=("circle 0",))])
    today = load(home)
    fresh = made_again(base, today, np.ones(len(today.acts), np.bool_), tmp_path)
    served = load_for_serving(fresh, InProcess())
    assert served.reading is not None
    assert served.reading.decay == 0.8
    new, known = served.item_ids.index("brand-new"), served.item_ids.index("i1")
    assert new in served.together.places[known], "who acted on i1 acted on it"
    assert known in served.together.places[new], "a new item has a row of its own"
    k = served.together.places.shape[1]
    again = companions_again(today, np.ones(len(today.acts), np.bool_), k)
    assert np.array_equal(again[0], served.together.places)


def test_what_is_rewound_knows_no_later_act(circles: Dataset, base: Bundle, tmp_path: Path) -> None:
    early = circles.acts.at < START_S + 60.0 * len(circles.acts) / 2
    back = made_again(base, circles, early, tmp_path)
    rows = np.load(back.file("together_rows.npy"))
    expected = companions_again(circles, early, rows.shape[1])[0]
    assert np.array_equal(rows, expected)
    assert not np.array_equal(rows, companions_again(circles, np.ones_like(early), rows.shape[1])[0])


def test_an_evaluation_asks_tables_that_know_all_but_the_test_and_towers_as_they_were_trained(
    home: Path, circles: Dataset, parts: Split, base: Bundle
) -> None:
    workshop = Workshop(home, "some data", purpose="evaluate")
    brought = workshop.brought_up(base)
    known = ~workshop.parts.test
    rows = np.load(brought.file("together_rows.npy"))
    assert np.array_equal(rows, companions_again(workshop.dataset, known, rows.shape[1])[0])
    assert brought.data["acts"] == known.sum() > parts.train.sum() >= base.data["acts"]
    assert file_hashes(brought)["user_tower.onnx"] == file_hashes(base)["user_tower.onnx"]
    workshop.brought_up(base)
    assert [step.skipped for step in workshop.steps] == [False, True]
