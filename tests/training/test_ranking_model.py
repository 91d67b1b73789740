"""Every ranker's parts, its plain form and its four graphs are one function."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bundles import SOURCES, make_items, make_user, make_views
from training import train_ranking
from training.models import dcn_v2
from training.models.dcn_v2 import DcnV2
from training.models.ranker import Inputs, Range, Ranker, Regularisation, forgotten, starts
from training.models.rankers import RANKERS
from winnow.candidate_features import candidate_names
from winnow.encoding import Schema, fit_scales, fit_vocabularies
from winnow.errors import FailedPrecondition
from winnow.features import RANKER_ITEM, RANKER_USER, ItemView, UserView
from winnow.inference import OnnxModel, check_tables
from winnow.types import Context, Item

ITEMS = make_items(60)
ITEM_VIEWS, USER_VIEWS = make_views(ITEMS)
C = len(candidate_names(SOURCES))
Arrays = dict[str, npt.NDArray[np.generic]]


def make_model(
    name: str, user_names: tuple[str, ...], item_names: tuple[str, ...], seed: int
) -> tuple[Ranker, Schema, Schema]:
    """A ranker whose every weight says something, and whose calibration is bent."""
    vocabularies = fit_vocabularies((*item_names, *user_names), ITEM_VIEWS, USER_VIEWS)
    user = Schema(user_names, vocabularies, fit_scales(user_names, USER_VIEWS, "user"))
    item = Schema(item_names, vocabularies, fit_scales(item_names, ITEM_VIEWS, "item"))
    torch.manual_seed(seed)
    raw = np.random.default_rng(seed).gamma(1.0, 3.0, (100, C)).astype(np.float32)
    raw[:, -1] = 0.0  # a source that never spoke
    ranges = Range.of(user.encode(USER_VIEWS)[1]), Range.of(item.encode(ITEM_VIEWS)[1])
    model = RANKERS[name].make(Inputs(user, item, *ranges, raw), Regularisation(init_std=0.25)).eval()
    with torch.no_grad():
        for zero in (p for p in model.parameters() if not p.any()):
            zero.normal_(std=0.1)
        model.value_scale.fill_(3.5)
        model.slopes.copy_(torch.tensor([0.8, 1.3, 1.1]))
        model.shifts.copy_(torch.tensor([-0.5, 0.2, 0.1]))
        model.knots = torch.tensor([[-1.0, 0.5], [-0.3, 0.2], [0.0, 0.0]])
        model.bends = torch.tensor([[-0.4, 0.3], [0.6, -0.2], [0.0, 0.0]])
    return model, user, item


def encoded(schema: Schema, views: list[UserView] | list[ItemView]) -> tuple[torch.Tensor, torch.Tensor]:
    ids, numbers = schema.encode(views)
    return torch.from_numpy(ids), torch.from_numpy(numbers)


def some_names(names: tuple[str, ...], always: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sets(st.sampled_from(names)).map(lambda some: tuple(n for n in names if n in some | {always}))


def apart(heads: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """The largest difference; of values in units of the largest, where that is over 1."""
    return float((np.abs(heads - expected) / np.maximum(expected.max((0, 1)), 1.0)).max())


@torch.no_grad()
def plain_heads(model: Ranker, user: tuple[torch.Tensor, ...], item: tuple[torch.Tensor, ...], c: torch.Tensor):
    """Heads (b, n, 3) by the plain form, every pair by itself; `item` is (b, n, …)."""
    b, n = c.shape[:2]
    ids, numbers = (x.repeat_interleave(n, 0) for x in user)
    logits = model.plain(ids, numbers, item[0].flatten(0, 1), item[1].flatten(0, 1), c.flatten(0, 1))
    return model.calibrated(logits).reshape(b, n, 3)


@pytest.mark.parametrize("name", RANKERS)
@settings(max_examples=10, deadline=None)
@given(
    user_names=some_names(tuple(n for n in RANKER_USER if n != "user_log_events"), "user_id").map(
        lambda names: (*names, "user_log_events")
    ),
    item_names=some_names(RANKER_ITEM, "item_id").map(lambda names: tuple(dict.fromkeys((*names, "item_log_count")))),
    b=st.integers(1, 4),
    n=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_the_split_form_computes_what_the_plain_one_does(
    name: str, user_names: tuple[str, ...], item_names: tuple[str, ...], b: int, n: int, seed: int
) -> None:
    model, user, item = make_model(name, user_names, item_names, seed)
    rng = np.random.default_rng(seed)
    people = encoded(user, [USER_VIEWS[row] for row in rng.integers(0, len(USER_VIEWS), b)])
    ids, numbers = encoded(item, [ITEM_VIEWS[row] for row in rng.integers(0, len(ITEM_VIEWS), b * n)])
    things = ids.reshape(b, n, -1), numbers.reshape(b, n, -1)
    candidates = torch.from_numpy(rng.normal(1.0, 6.0, (b, n, C)).astype(np.float32))
    batch = dict(zip(("user_ids", "user_numbers"), people, strict=True))
    batch |= dict(zip(("item_ids", "item_numbers"), things, strict=True)) | {"candidates": candidates}
    with torch.no_grad():
        split = model.calibrated(model(batch))
    plain = plain_heads(model, people, things, candidates)
    assert apart(split.numpy(), plain.numpy()) <= 1e-5
    assert (split[..., 1] <= split[..., 0]).all(), "nobody converts without a click"
    assert n == 1 or float(split[..., 0].std()) > 0


@pytest.fixture(scope="module", params=RANKERS)
def ranker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ranker, Schema, Schema, Path]:
    path: Path = tmp_path_factory.mktemp("graphs")
    model, user, item = make_model(request.param, RANKER_USER, RANKER_ITEM, seed=7)
    RANKERS[model.name].export(model, path)
    return model, user, item, path


def graph_heads(path: Path, people: Arrays, things: Arrays, rows: npt.NDArray[np.int64], candidates) -> npt.NDArray:
    """Heads (b, n, 3) by user_net, item_net and cross; `rows` (b, n) of `things`."""
    user = OnnxModel(path / "user_net.onnx").run(people)
    item = OnnxModel(path / "item_net.onnx").run(things)
    inputs = {"user_vectors": user["vectors"], "user_hidden": user["hidden"], "candidates": candidates}
    inputs |= {"item_vectors": item["vectors"][rows], "item_hidden": item["hidden"][rows]}
    return OnnxModel(path / "cross.onnx").run(inputs)["heads"]


def test_all_four_graphs_compute_what_torch_does(ranker: tuple[Ranker, Schema, Schema, Path]) -> None:
    model, user, item, path = ranker
    rng = np.random.default_rng(3)
    people, things = user.encode(USER_VIEWS[:5]), item.encode(ITEM_VIEWS)
    rows = rng.integers(0, len(ITEM_VIEWS), (5, 40))
    candidates = rng.normal(1.0, 6.0, (5, 40, C)).astype(np.float32)
    with torch.no_grad():
        of_user = model.user(*map(torch.from_numpy, people))
        of_item = model.item(*map(torch.from_numpy, things))
    torch_items = tuple(torch.from_numpy(x[rows]) for x in things)
    expected = plain_heads(model, tuple(map(torch.from_numpy, people)), torch_items, torch.from_numpy(candidates))
    for name, inputs, outputs in (("user_net", people, of_user), ("item_net", things, of_item)):
        got = OnnxModel(path / f"{name}.onnx").run(dict(zip(("ids", "numbers"), inputs, strict=True)))
        for key, value in zip(("vectors", "hidden"), outputs, strict=True):
            assert np.abs(got[key] - value.numpy()).max() <= 1e-5 * max(1.0, float(value.abs().max()))
    named = [dict(zip(("ids", "numbers"), side, strict=True)) for side in (people, things)]
    heads = graph_heads(path, named[0], named[1], rows, candidates)
    assert apart(heads, expected.numpy()) <= 1e-5
    flat = {
        "user_ids": np.repeat(people[0], 40, axis=0),
        "user_numbers": np.repeat(people[1], 40, axis=0),
        "item_ids": things[0][rows.ravel()],
        "item_numbers": things[1][rows.ravel()],
        "candidates": candidates.reshape(-1, C),
    }
    plain = OnnxModel(path / "plain.onnx").run(flat)["heads"].reshape(5, 40, 3)
    assert apart(plain, expected.numpy()) <= 1e-5
    assert heads[..., :2].min() > 0
    assert heads[..., :2].max() < 1
    assert np.ptp(heads[..., 0]) > 0.01


def test_the_graphs_take_every_id_that_the_schemas_can_encode(ranker: tuple[Ranker, Schema, Schema, Path]) -> None:
    _, user, item, path = ranker
    check_tables("user_net", OnnxModel(path / "user_net.onnx"), user)
    check_tables("item_net", OnnxModel(path / "item_net.onnx"), item)


def test_unknown_people_and_items_are_scored_like_others(ranker: tuple[Ranker, Schema, Schema, Path]) -> None:
    _, user, item, path = ranker
    stranger = UserView(make_user("never seen"), Context(), {}.get)
    views = [ItemView(Item("brand new", title="New", categories=("Unheard",))), *ITEM_VIEWS[:3]]
    people = dict(zip(("ids", "numbers"), user.encode([stranger]), strict=True))
    things = dict(zip(("ids", "numbers"), item.encode(views), strict=True))
    heads = graph_heads(path, people, things, np.arange(4)[None], np.zeros((1, 4, C), np.float32))
    assert np.isfinite(heads).all()
    assert len(np.unique(heads[0, :, 0])) == 4


def test_numbers_beyond_what_training_saw_change_nothing(ranker: tuple[Ranker, Schema, Schema, Path]) -> None:
    """A home that stands still for years must not push its people out of the range that the model knows."""
    model, user, _, _ = ranker
    ids, numbers = encoded(user, USER_VIEWS[:2])
    beyond = torch.maximum(numbers, model.user_side.high) + 1e6
    assert torch.equal(model.user(ids, beyond)[1], model.user(ids, model.user_side.high.expand_as(numbers))[1])


def test_forgetting_an_id_leads_to_the_bucket_that_serving_would_use() -> None:
    model, user, _ = make_model("dlrm", RANKER_USER, RANKER_ITEM, seed=1)
    vocabulary = user.vocabularies["user_id"]
    start, rows = starts(model.vocabularies)["user_id"], forgotten(model.vocabularies)
    for value in vocabulary.values[:10]:
        assert rows[start + vocabulary.row(value)] == start + vocabulary.bucket(value)
    assert rows[start] == start, "a missing value stays missing"


def test_the_same_weights_give_the_same_bytes(ranker: tuple[Ranker, Schema, Schema, Path], tmp_path: Path) -> None:
    model, _, _, path = ranker
    RANKERS[model.name].export(model, tmp_path)
    for file in sorted(path.glob("*.onnx")):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_cross_layers_of_any_number_are_split_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers are what is served; the identity that splits them holds for more."""
    monkeypatch.setattr(dcn_v2, "LAYERS", 4)
    model, _, _ = make_model("dcn_v2", RANKER_USER, RANKER_ITEM, seed=2)
    assert isinstance(model, DcnV2)
    x = torch.randn(20, model.width) * 0.5
    with torch.no_grad():
        parts = sum(model.state(part, x[:, part.columns]) for part in model.parts)
        assert isinstance(parts, torch.Tensor)
        assert torch.allclose(model.finish(parts), model.textbook(x), rtol=1e-4, atol=1e-5)
        assert model.textbook(x).std() > 0.01


def test_a_set_too_small_to_learn_from_is_one_sentence() -> None:
    nothing: Any = SimpleNamespace(rank=SimpleNamespace(user_numbers=np.empty((0, 3), np.float32)), schemas=None)
    with pytest.raises(FailedPrecondition, match="the ranker needs more events"):
        train_ranking.make_model(nothing, train_ranking.RankingSettings())
