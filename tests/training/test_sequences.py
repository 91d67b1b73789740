"""Acts as padded sequences: every act a target once, never its own future, and features as serving computes them."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.worlds import dataset_of
from training.batches import TrainingBatches, cut
from training.dataset import Dataset
from training.sequences import Sequences, Values, person_facts
from training.split import split
from training.train_retrieval import schemas_of
from winnow.acts import TYPES
from winnow.encoding import Schema
from winnow.features import UserView
from winnow.types import HISTORY, Context


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Five people with 1, 2, 60, 130 and 49 acts, of all types, some with values, hours apart."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(5), [1, 2, 60, 130, 49])
    types = rng.choice(["click", "cart", "purchase", "rating", "dismiss"], len(people))
    order = rng.permutation(len(people))
    events = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(len(people))],
            "type": types,
            "user_id": [f"u{n}" for n in people[order]],
            "item_id": [f"i{n}" for n in rng.integers(0, 30, len(people))],
            "value": [float(rng.integers(1, 6)) if kind in ("rating", "purchase") else None for kind in types],
            "occurred_at": [1_700_000_000 + 7_000.0 * n for n in range(len(people))],
        }
    )
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(30)], "title": [f"Thing {n}" for n in range(30)]})
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(5)], "traits.gender": ["F", "M", "F", "M", "F"]})
    return dataset_of(tmp_path_factory.mktemp("home"), events, items, users)


@pytest.fixture(scope="module")
def schema(dataset: Dataset) -> Schema:
    return schemas_of(dataset, split(dataset, "serve"))[1]


@pytest.fixture(scope="module")
def sequences(dataset: Dataset, schema: Schema) -> Sequences:
    return Sequences.of(dataset, schema, person_facts(dataset, schema), Values(3.0, 2.0))


def test_every_act_but_a_dismissal_is_a_target_once_per_epoch(sequences: Sequences) -> None:
    batches = TrainingBatches(sequences, size=3, stride=20, seed=1)
    for epoch in range(3):
        targets = np.concatenate([batch["targets"].numpy().ravel() for batch in batches(epoch, 0, 1)])
        found = np.bincount(targets[targets >= 0], minlength=30)
        assert found.tolist() == np.bincount(sequences.items()[sequences.wanted], minlength=30).tolist()
    first, second = (next(iter(batches(epoch, 0, 1)))["targets"] for epoch in (0, 1))
    assert first.tolist() != second.tolist()


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 200), min_size=1, max_size=20), stride=st.integers(1, 50), seed=st.integers(0, 99))
def test_windows_cover_everyone_without_overlap(sizes: list[int], stride: int, seed: int) -> None:
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    first, last = cut(starts, stride, np.random.default_rng(seed))
    assert np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)] or [[]]).tolist() == list(
        range(starts[-1])
    )
    person = np.searchsorted(starts, first, side="right") - 1
    assert (last <= starts[person + 1]).all()
    assert (last - first <= stride).all()


def test_a_window_is_the_history_that_serving_would_have(
    dataset: Dataset, sequences: Sequences, schema: Schema
) -> None:
    positions = np.arange(0, len(sequences), 7)
    batch = sequences.before(positions)
    for row, act in enumerate(sequences.act_rows[positions]):
        state = dataset.state(int(dataset.acts.user[act]), int(act))
        known = batch["inputs"][row] >= 0
        assert known.tolist() == [n >= HISTORY - len(state.history) for n in range(HISTORY)]
        assert dataset.item_ids[batch["inputs"][row][known]].tolist() == state.history.item_ids.tolist()
        assert [TYPES[code - 1] for code in batch["types"][row][known]] == state.history.types.tolist()
        expected = np.nan_to_num((state.history.values - 3.0) / 2.0, nan=0.0)
        assert np.allclose(batch["values"][row][known], expected, atol=1e-6)
        assert not batch["values"][row][~known].any()
        assert not batch["types"][row][~known].any()
        context = Context(at=datetime.fromtimestamp(float(dataset.acts.at[act]), UTC))
        ids, _ = schema.encode([UserView(state, context, lambda _: None)])
        assert batch["ids"][row, 0].tolist() == ids[0].tolist()


def test_targets_come_right_after_their_inputs(sequences: Sequences) -> None:
    longest = int(np.diff(sequences.starts).argmax())
    start, end = sequences.starts[longest : longest + 2]
    batch = sequences.windows(np.array([start + 70]), np.array([start + 120]))
    assert batch["inputs"][0].tolist() == sequences.items(slice(start + 69, start + 119)).tolist()
    wanted = np.where(sequences.wanted, sequences.items(), -1)
    assert batch["targets"][0].tolist() == wanted[start + 70 : start + 120].tolist()
    shorter = sequences.windows(np.array([end - 10]), np.array([end]))
    assert (shorter["targets"][0, :40] == -1).all()
    assert (shorter["inputs"][0] >= 0).all()  # what came before is still read


def test_values_without_spread_or_without_any_are_harmless() -> None:
    none = Values.fit(np.full(3, np.nan, np.float32))
    same = Values.fit(np.full(3, 4.0, np.float32))
    assert none.scaled(np.array([np.nan], np.float32)).tolist() == [0.0]
    assert same.scaled(np.array([4.0, 5.0], np.float32)).tolist() == [0.0, 1.0]
