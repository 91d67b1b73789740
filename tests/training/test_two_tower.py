"""The two-tower model: its loss against a computation by hand, and what it promises about padding, order and strangers."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bundles import make_items, make_views
from training.export import export
from training.models.two_tower import TowerSizes, TwoTower, log_inclusion, sampled_softmax, windows_of
from training.retrieval_bundle import AXES, HISTORY_AXES
from winnow.encoding import Schema, fit_scales, fit_vocabularies
from winnow.features import ITEM_TOWER, USER_TOWER
from winnow.inference import OnnxModel
from winnow.types import HISTORY

ITEMS = 40
SIZES = TowerSizes(dropout=0.0, cold_items=0.0, cold_users=0.0, bare_users=0.0)


@pytest.fixture(scope="module")
def model() -> TwoTower:
    views, people = make_views(make_items(ITEMS))
    item = Schema(ITEM_TOWER, fit_vocabularies(ITEM_TOWER, views, ()), fit_scales(ITEM_TOWER, views, "item"))
    user = Schema(USER_TOWER, fit_vocabularies(USER_TOWER, (), people))
    ids, numbers = item.encode(views)
    torch.manual_seed(0)
    made = TwoTower(
        item,
        user,
        SIZES,
        event_types=6,
        item_ids=torch.from_numpy(ids),
        item_numbers=torch.from_numpy(numbers),
        item_buckets=torch.ones(ITEMS, dtype=torch.int64),
        user_buckets=torch.ones(len(user.vocabularies["user_id"]), dtype=torch.int64),
        item_counts=torch.arange(1.0, ITEMS + 1),
    )
    zeros = [made.user.value, made.user.pool.distance, *(block.attention.distance for block in made.user.blocks)]
    for parameter in (*made.user.tables.parameters(), *zeros):  # as if they were trained
        torch.nn.init.normal_(parameter, std=1.0 if parameter.shape[-1] == HISTORY else 0.1)
    return made.eval()


def sequences(model: TwoTower, lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch of people with histories of these lengths, padded on the left; a target after every act."""
    rng = torch.Generator().manual_seed(seed)
    items = torch.randint(0, ITEMS, (len(lengths), HISTORY + 1), generator=rng)
    known = torch.arange(HISTORY) >= HISTORY - torch.tensor(lengths)[:, None]
    width = model.user.tables.__len__()
    return {
        "inputs": torch.where(known, items[:, :-1], -1),
        "targets": torch.where(known, items[:, 1:], -1),
        "types": torch.where(known, torch.randint(1, 6, known.shape, generator=rng), 0),
        "values": torch.where(known, torch.randn(known.shape, generator=rng), 0.0),
        "ids": torch.randint(0, 5, (len(lengths), 1, width), generator=rng).repeat(1, HISTORY, 1),
    }


def vectors(model: TwoTower, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(b, L, d): the person after every act."""
    history = model.vectors_of(batch["inputs"].flatten()).reshape(*batch["inputs"].shape, -1)
    return model.user.after(batch["ids"], history, batch["types"], batch["values"])


def test_the_loss_is_the_corrected_softmax_computed_by_hand() -> None:
    people = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    items = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    q = torch.tensor([0.5, 0.25, 0.1])
    seen = torch.tensor([[False, False, True], [False, True, False]])  # the second person's own target is in there
    found = sampled_softmax(people, items, torch.tensor([0, 1]), q.log(), seen)
    first = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(0.0) / 0.25))
    second = -math.log(math.exp(3.0) / (math.exp(3.0) + math.exp(0.0) / 0.5 + math.exp(2.4) / 0.1))
    assert float(found) == pytest.approx((first + second) / 2, rel=1e-6)


def test_an_item_that_is_always_in_the_batch_is_not_corrected_and_a_rare_one_counts_for_its_kind() -> None:
    inclusion = log_inclusion(torch.tensor([0.5, 0.001, 0.0]), draws=100).exp()
    assert inclusion.tolist() == pytest.approx([1.0, 1 - 0.999**100, 0.0], abs=1e-6)


@torch.no_grad()
def test_the_batch_loss_masks_the_items_of_the_own_window_and_equal_items(model: TwoTower) -> None:
    batch = sequences(model, [3, HISTORY, 7])
    people, items, total, n = vectors(model, batch), model.vectors_of(torch.arange(ITEMS)), 0.0, 0
    counts = np.arange(1, ITEMS + 1)
    draws = int((batch["targets"] >= 0).sum())
    q = 1 - (1 - counts / counts.sum()) ** draws
    columns = set(batch["targets"].flatten().tolist()) - {-1}
    for line, (inputs, targets) in enumerate(zip(batch["inputs"].tolist(), batch["targets"].tolist(), strict=True)):
        for place, target in enumerate(targets):
            if target < 0:
                continue
            score = (items @ people[line, place]).double() * float(model.scale)
            others = columns - set(inputs) - set(targets)
            below = sum(math.exp(score[other]) / q[other] for other in others)
            total += math.log(math.exp(score[target]) + below) - float(score[target])
            n += 1
    assert float(model(batch)) == pytest.approx(total / n, rel=1e-4)


def test_a_window_knows_its_items() -> None:
    rows, place = torch.unique(torch.tensor([[5, 9, 5], [7, -1, 9]]), return_inverse=True)
    found = windows_of(rows, place, torch.tensor([5, 7, 9]))
    assert found.tolist() == [[True, False, True], [False, True, True]]


@torch.no_grad()
def test_vectors_have_length_one_also_for_an_empty_history(model: TwoTower) -> None:
    found = vectors(model, sequences(model, [0, 1, 20, HISTORY]))[:, -1]
    assert torch.isfinite(found).all()
    assert torch.allclose(found.norm(dim=1), torch.ones(4), atol=1e-5)


@torch.no_grad()
def test_a_place_in_training_sees_what_serving_sees_at_the_last_place(model: TwoTower) -> None:
    batch = sequences(model, [HISTORY])
    whole = vectors(model, batch)[0]
    for acts in (1, 17, HISTORY - 1):
        shifted = {name: torch.zeros_like(column) for name, column in batch.items()} | {"ids": batch["ids"]}
        shifted["inputs"] -= 1
        for name in ("inputs", "types", "values"):
            shifted[name][0, HISTORY - acts :] = batch[name][0, :acts]
        assert torch.allclose(vectors(model, shifted)[0, -1], whole[acts - 1], atol=1e-5)


@torch.no_grad()
def test_the_future_changes_nothing_and_the_order_of_the_past_does(model: TwoTower) -> None:
    batch = sequences(model, [HISTORY])
    later = {name: column.clone() for name, column in batch.items()}
    later["inputs"][0, 30:] = 0
    assert torch.allclose(vectors(model, batch)[0, :30], vectors(model, later)[0, :30], atol=1e-6)
    turned = {name: column.clone() for name, column in batch.items()}
    turned["inputs"][0, :-1] = batch["inputs"][0, :-1].flip(0)
    assert not torch.allclose(vectors(model, batch)[0, -1], vectors(model, turned)[0, -1], atol=1e-4)


@torch.no_grad()
def test_serving_computes_the_last_place_of_training(model: TwoTower) -> None:
    batch = sequences(model, [0, 5, HISTORY])
    history = model.vectors_of(batch["inputs"].flatten()).reshape(*batch["inputs"].shape, -1)
    served = model.user(batch["ids"][:, -1], history, batch["types"], batch["values"])
    assert torch.allclose(served, vectors(model, batch)[:, -1], atol=1e-6)


def test_the_temperature_stays_within_its_bounds(model: TwoTower) -> None:
    with torch.no_grad():
        before = model.log_scale.clone()
        for value, expected in ((50.0, 50.0), (-50.0, 2.0)):
            model.log_scale.fill_(value)
            assert float(model.scale) == pytest.approx(expected)
        model.log_scale.copy_(before)


def test_in_training_some_ids_hide_behind_their_bucket(model: TwoTower) -> None:
    model.sizes = TowerSizes(dropout=0.0, cold_items=1.0, cold_users=1.0, bare_users=0.0)
    model.train()
    torch.manual_seed(0)
    ids = torch.full((200, HISTORY, len(model.user.tables)), 9)
    hidden = model.hide_users(ids)[:, 0, model.user_column]
    model.sizes = TowerSizes(cold_users=0.0, bare_users=0.5)
    bare = model.hide_users(ids)
    model.sizes = TowerSizes(dropout=0.0, cold_items=1.0)
    cold = model.vectors_of(torch.arange(ITEMS))
    model.sizes = SIZES
    model.eval()
    assert set(hidden.tolist()) == {0, 1}  # nobody, or the bucket
    assert 60 < int((bare == 9).all(dim=(1, 2)).sum()) < 140
    assert set(bare.flatten().tolist()) == {0, 9}
    ids = model.item_ids.clone()
    ids[:, model.id_column] = 1
    assert torch.allclose(cold, model.item(ids, model.item_numbers), atol=1e-6)
    assert not torch.allclose(cold, model.vectors_of(torch.arange(ITEMS)), atol=1e-2)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_exported_towers_compute_what_torch_computes(model: TwoTower, tmp_path: Path, layers: int) -> None:
    tower = copy.deepcopy(model)
    tower.user.blocks.extend(copy.deepcopy(model.user.blocks[0]) for _ in range(layers - 1))
    with torch.no_grad():
        for weights in tower.parameters():  # no bias is 0, no norm is 1, no net adds nothing
            weights += 0.05 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(weights.numel()))
        batch = sequences(tower, [0, 1, 30, HISTORY])
        history = tower.vectors_of(batch["inputs"].flatten()).reshape(*batch["inputs"].shape, -1)
    people = {
        "ids": batch["ids"][:, 0].contiguous(),
        "history": history,
        "history_types": batch["types"],
        "history_values": batch["values"],
    }
    export(tower.user, people, ["vector"], HISTORY_AXES, tmp_path / "user.onnx")  # raises where they differ by 1e-5
    items = {"ids": tower.item_ids, "numbers": tower.item_numbers}
    export(tower.item, items, ["vector"], AXES, tmp_path / "item.onnx")
    asked = OnnxModel(tmp_path / "user.onnx").run({name: column[2:3].numpy() for name, column in people.items()})
    assert asked["vector"].shape == (1, SIZES.dim)
