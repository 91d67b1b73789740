"""Several modalities become one vector, also where some are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.bundles import make_items, make_views
from training.export import export
from training.models.fusion import MIXES, Fusion
from training.models.two_tower import ItemTower, TowerSizes, item_tower
from winnow.encoding import Schema, fit_scales, fit_vocabularies
from winnow.features import ITEM_TOWER

WIDTHS = {"text": 16, "image": 12, "metadata": 5}
KINDS, EACH, STEPS = 6, 20, 120


def drawn(n: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(n, width, generator=generator) for name, width in WIDTHS.items()}


def fresh(how: str) -> Fusion:
    torch.manual_seed(1)
    return Fusion(WIDTHS, 24, how).eval()


@pytest.mark.parametrize("how", MIXES)
@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.tuples(*[st.booleans()] * len(WIDTHS)), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_any_subset_gives_a_finite_vector_and_what_is_missing_says_nothing(
    how: str, rows: list[tuple[bool, ...]], seed: int
) -> None:
    fusion, present = fresh(how), torch.tensor(rows)
    vectors, others = drawn(len(rows), seed), drawn(len(rows), seed + 100)
    mixed = {
        name: torch.where(present[:, n : n + 1], vectors[name], others[name] * 1e3) for n, name in enumerate(WIDTHS)
    }
    with torch.no_grad():
        found = fusion(vectors, present)
        assert found.shape == (len(rows), 24)
        assert torch.isfinite(found).all()
        assert torch.allclose(found, fusion(mixed, present), atol=1e-6)
        assert torch.equal(found[~present.any(1)], fusion.nothing.expand(int((~present.any(1)).sum()), 24))


@pytest.mark.parametrize("how", MIXES)
def test_each_modality_counts(how: str) -> None:
    fusion, vectors, whole = fresh(how), drawn(8, 0), torch.ones(8, len(WIDTHS), dtype=torch.bool)
    for n in range(len(WIDTHS)):
        without = whole.clone()
        without[:, n] = False
        assert (fusion(vectors, whole) - fusion(vectors, without)).abs().amax(1).min() > 1e-3


def test_training_hides_some_and_never_all() -> None:
    fusion, present = fresh("gated").train(), torch.tensor([[True, True, False]] * 2_000 + [[False] * 3] * 10)
    hidden = fusion.hidden(present)
    assert (hidden <= present).all()
    assert hidden[:2_000].any(1).all()
    assert 0.6 < hidden[:2_000, 0].float().mean() < 0.85
    assert torch.equal(fusion.eval().hidden(present), present)


# ---------------------------------------------------------------------------------------------- a world


@dataclass(frozen=True)
class World:
    """Items of six kinds, which every modality shows through noise; everybody likes one kind."""

    kind: np.ndarray
    vectors: dict[str, Tensor]
    liked: np.ndarray  # (people, 6) item rows, the last one held out
    popularity: np.ndarray


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(3)
    kind = np.arange(KINDS * EACH) % KINDS
    shows = {name: rng.normal(size=(KINDS, width)) for name, width in WIDTHS.items()}
    vectors = {
        name: torch.from_numpy((shown[kind] + rng.normal(size=(len(kind), shown.shape[1]))).astype(np.float32))
        for name, shown in shows.items()
    }
    liked = np.stack([rng.permutation(np.flatnonzero(kind == person % KINDS))[:6] for person in range(240)])
    return World(kind, vectors, liked, np.bincount(liked[:, :-1].ravel(), minlength=len(kind)))


@pytest.fixture(scope="module", params=MIXES)
def fusion(request: pytest.FixtureRequest, world: World) -> Fusion:
    """Taught to bring together what one person likes."""
    torch.manual_seed(0)
    fusion, rng = Fusion(WIDTHS, 24, request.param).train(), np.random.default_rng(0)
    optimiser = torch.optim.Adam(fusion.parameters(), lr=5e-3)
    whole = torch.ones(len(world.kind), len(WIDTHS), dtype=torch.bool)
    for _ in range(STEPS):
        people = rng.choice(len(world.liked), 64, replace=False)
        first, second = (world.liked[people, rng.integers(0, 5, 64)] for _ in range(2))
        vectors = F.normalize(fusion(world.vectors, whole), dim=1)
        loss = F.cross_entropy(vectors[first] @ vectors.T / 0.1, torch.from_numpy(second))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return fusion.eval()


@torch.no_grad()
def vectors_of(fusion: Fusion, world: World, missing: str = "") -> Tensor:
    present = torch.tensor([[name != missing for name in WIDTHS]] * len(world.kind))
    return F.normalize(fusion(world.vectors, present), dim=1)


def hit_rate(scores: np.ndarray, world: World) -> float:
    """HR@10 of the held-out item, those that the person acted on left out."""
    scores = scores.copy()
    np.put_along_axis(scores, world.liked[:, :-1], -np.inf, axis=1)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return float((best == world.liked[:, -1:]).any(axis=1).mean())


@pytest.mark.parametrize("missing", ["", *WIDTHS])
def test_a_model_without_one_modality_still_beats_popularity(fusion: Fusion, world: World, missing: str) -> None:
    items = vectors_of(fusion, world, missing)
    asked = items[torch.from_numpy(world.liked[:, :-1])].mean(1)
    popular = hit_rate(np.repeat(world.popularity[None].astype(float), len(world.liked), axis=0), world)
    assert hit_rate((asked @ items.T).numpy(), world) > 3 * popular


@pytest.mark.parametrize("missing", WIDTHS)
def test_an_item_that_lacks_one_modality_stays_among_its_neighbours(fusion: Fusion, world: World, missing: str) -> None:
    whole, lacking = vectors_of(fusion, world), vectors_of(fusion, world, missing)
    nearest = (lacking @ whole.T).topk(5, dim=1).indices.numpy()
    assert (world.kind[nearest] == world.kind[:, None]).mean() > 0.8
    assert F.cosine_similarity(lacking, whole).median() > 0.7


# ---------------------------------------------------------------------------------------------- the item tower


def tower_of(how: str) -> tuple[ItemTower, Tensor, Tensor]:
    """A tower, and items of which one has no words, one nothing at all, and one an id that nobody knew."""
    items, people = make_views(make_items(30))
    vocabularies = fit_vocabularies(ITEM_TOWER, items, people)
    schema = Schema(ITEM_TOWER, vocabularies, fit_scales(ITEM_TOWER, items, "item"))
    ids, numbers = (torch.from_numpy(column) for column in schema.encode(items))
    ids[0, 9:] = 0
    ids[1] = 0
    ids[2, 0] = vocabularies["item_id"].bucket("unheard of")
    torch.manual_seed(0)
    return item_tower(schema, TowerSizes(dim=32, hidden=32, fusion=how)).eval(), ids, numbers


@pytest.mark.parametrize("how", MIXES)
def test_an_item_tower_that_fuses_gives_every_item_a_direction(how: str) -> None:
    tower, ids, numbers = tower_of(how)
    assert torch.allclose(tower(ids, numbers).norm(dim=1), torch.ones(len(ids)), atol=1e-5)


def test_an_item_tower_that_fuses_has_the_graph_that_bundles_name(tmp_path: Path) -> None:
    """One way stands for all, as an export takes seconds: the one with the most unusual operations."""
    tower, ids, numbers = tower_of("attention")
    inputs, axes = {"ids": ids, "numbers": numbers}, {"ids": {0: "n"}, "numbers": {0: "n"}}
    export(tower, inputs, ("vector",), axes, tmp_path / "tower.onnx")
    traced = (tmp_path / "tower.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in traced
    assert b"site-packages" not in traced
