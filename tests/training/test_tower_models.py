"""What the shared suite does not ask of the models fitted by gradient (tests/contract/test_models.py): their losses
against a computation by hand, what a reader makes of holes, graphs, features of new items, and who is held out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.interactions import plain
from training.models.bert4rec import Bert4Rec
from training.models.contract import Interactions, Side, Towers
from training.models.deepmf import DeepMf
from training.models.gru4rec import Gru4Rec, Gru4RecSettings
from training.models.hybrid import Hybrid, HybridSettings
from training.models.lightgcn import FoldIn, LightGcn, edges_of, normalised
from training.models.losses import bpr, bpr_max, gbce, scored, softmax, warp
from training.models.sasrec import SasRec, SasRecSettings
from training.models.sparse import Spread
from training.models.towers import Encoder, Probe, Reader, held_out
from winnow.encoding import Schema, Vocabulary
from winnow.features import Ints
from winnow.types import HISTORY

N, DIM = 12, 4
PEOPLE, ITEMS, WANTED = torch.randn(3, DIM), torch.randn(N, DIM), torch.tensor([2, 0, 5])


# ---------------------------------------------------------------------------------------------- losses


def drawn(negatives: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `scored` gives the loss that is called next."""
    torch.manual_seed(1)
    found = scored(PEOPLE, ITEMS, WANTED, negatives)
    torch.manual_seed(1)
    return found


def test_softmax_is_the_log_of_an_items_share_of_all() -> None:
    scores = (PEOPLE @ ITEMS.T).double()
    expected = -(scores.exp()[range(3), WANTED] / scores.exp().sum(1)).log().mean()
    assert float(softmax(PEOPLE, ITEMS, WANTED)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_takes_the_positive_to_the_papers_power(t: float) -> None:
    k = 5
    positive, negative, clash = drawn(k)
    share = k / (N - 1)
    power = share * (t * (1 - 1 / share) + 1 / share)
    own = torch.log(torch.sigmoid(positive) ** power)
    others = (torch.log(1 - torch.sigmoid(negative)) * ~clash).sum(1)
    assert float(gbce(PEOPLE, ITEMS, WANTED, k, t)) == pytest.approx(float(-(own + others).mean() / (1 + k)), rel=1e-5)


def test_bpr_and_bpr_max_by_hand() -> None:
    positive, negative, clash = (part.double() for part in drawn(8))
    assert clash.any()
    before = torch.sigmoid(positive[:, None] - negative)
    assert float(bpr(PEOPLE, ITEMS, WANTED, 8)) == pytest.approx(float((-before.log() * (1 - clash)).mean()), rel=1e-5)
    weight = negative.exp() * (1 - clash)
    weight /= weight.sum(1, keepdim=True)
    expected = -(weight * before).sum(1).log() + 0.1 * (weight * negative**2).sum(1)
    drawn(8)
    assert float(bpr_max(PEOPLE, ITEMS, WANTED, 8)) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_warp_weighs_the_first_violation_by_the_rank_that_its_tries_betray() -> None:
    total = 0.0
    for own, others, same in zip(*(part.tolist() for part in drawn(6)), strict=True):
        tries = [n for n, s in enumerate(others) if s > own - 1 and not same[n]]
        if tries:
            total += math.log(max((N - 1) // (tries[0] + 1), 1)) * (1 - own + others[tries[0]])
    assert total > 0
    assert float(warp(PEOPLE, ITEMS, WANTED, 6)) == pytest.approx(total / 3, rel=1e-5)


# ---------------------------------------------------------------------------------------------- graphs


def test_a_sparse_product_and_its_gradient_are_the_dense_ones() -> None:
    torch.manual_seed(1)
    dense = torch.tensor(np.random.default_rng(0).random((4, 3)) > 0.5).float()
    spread = Spread(sp.csr_matrix(dense.numpy()))
    x, y = torch.randn(3, 2, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    assert torch.allclose(spread(x), dense @ x)
    assert torch.allclose(spread.back(y), dense.T @ y)
    weight = torch.randn(4, 2)
    ((spread(x) * weight).sum() + (spread.back(y) * weight[:3]).sum()).backward()
    assert torch.allclose(x.grad, dense.T @ weight)
    assert torch.allclose(y.grad, dense @ weight[:3])


def test_lightgcn_averages_what_every_number_of_steps_brings() -> None:
    data = plain(np.array([0, 1, 1, 2, 2, 0, 2]), np.array([0, 2, 4, 7]), 4)
    network = LightGcn().network(data)
    edges = torch.from_numpy(normalised(edges_of(data)).toarray())
    whole = torch.zeros(7, 7)
    whole[:3, 3:], whole[3:, :3] = edges, edges.T
    nodes = torch.cat([network.people_table, network.item_table])
    expected = sum(torch.linalg.matrix_power(whole, k) @ nodes for k in range(4)) / 4
    people, items = network.nodes()
    assert torch.allclose(torch.cat([people, items]), expected, atol=1e-6)
    assert torch.allclose(network.items()[:, -1], torch.tensor([2.0, 2, 2, math.inf]).rsqrt())
    assert edges[2].tolist() == pytest.approx([0.5, 0, 0.5, 0])  # a pair counts once


def test_lightgcn_folds_a_person_in_by_the_graphs_own_weights() -> None:
    history = torch.tensor([[[0.0, 0, 0], [1, 2, 0.5], [3, 4, 0.25]]])
    person = FoldIn()(history, torch.tensor([[False, True, True]]), torch.zeros(1, 0))
    assert torch.allclose(person, torch.tensor([[1.25, 2.0, 0.0]]) / math.sqrt(2) * torch.tensor([1.0, 1, 1]))


# ---------------------------------------------------------------------------------------------- readers

MODELS = {"sasrec": SasRec, "bert4rec": Bert4Rec, "gru4rec": Gru4Rec, "lightgcn": LightGcn, "hybrid": Hybrid}
MODELS["deepmf"] = DeepMf
AT_EVERY_PLACE = [name for name in MODELS if name != "bert4rec"]


def reader(name: str) -> Reader:
    torch.manual_seed(0)
    return Reader(MODELS[name]().encoder()).eval()


def inputs(history: torch.Tensor, types: torch.Tensor) -> dict[str, torch.Tensor]:
    ids, values = torch.zeros((len(history), 1), dtype=torch.int64), torch.zeros(types.shape)
    return {"ids": ids, "history": history, "history_types": types, "history_values": values}


def width_of(name: str) -> int:
    return 65 if name in ("lightgcn", "hybrid") else 64


@pytest.mark.parametrize("name", list(MODELS))
@torch.no_grad()
def test_an_item_without_a_vector_is_as_if_it_had_never_been(name: str) -> None:
    made, history = reader(name), torch.zeros(4, HISTORY, width_of(name))
    types = torch.zeros((4, HISTORY), dtype=torch.int64)
    acts = torch.randn(3, width_of(name))
    history[0, -3:], types[0, -3:] = acts, 2
    history[1, [-9, -4, -2]], types[1, -9:] = acts, 3  # the others are unknown
    history[2, -5:-2], types[2, -8:] = acts, 1
    types[3, -6:] = 1  # nothing but unknown ones
    people = made(**inputs(history, types))
    assert people[0].abs().max() > 0
    assert torch.equal(people[1], people[0])
    assert torch.equal(people[2], people[0])
    assert not people[3].any()
    history[0, 0] = 5.0  # padding may hold anything
    assert torch.equal(made(**inputs(history, types))[0], people[0])


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(AT_EVERY_PLACE), st.integers(2, HISTORY), st.data())
def test_a_person_after_an_act_of_a_window_is_the_one_that_serving_computes(
    name: str, length: int, data: st.DataObject
) -> None:
    encoder: Encoder = reader(name).encoder
    place = data.draw(st.integers(0, length - 1))
    window = torch.zeros(1, HISTORY, width_of(name))
    window[0, -length:] = torch.randn(length, width_of(name))
    known = (window != 0).any(-1)
    alone = torch.zeros_like(window)
    alone[0, HISTORY - 1 - place :] = window[0, HISTORY - length : HISTORY - length + place + 1]
    ids = torch.zeros((1, HISTORY, 1), dtype=torch.int64)
    with torch.no_grad():
        every = encoder.after(window, known, ids)
        served = encoder(alone, (alone != 0).any(-1), ids[:, -1])
    assert torch.allclose(every[0, HISTORY - length + place], served[0], atol=1e-4)


# ---------------------------------------------------------------------------------------------- features


def with_genres() -> Interactions:
    """Thirty people, each of one of two genres of five items; of the items 10 and 11 only the genre is known."""
    rng = np.random.default_rng(0)
    genre = np.arange(30) % 2
    items = np.concatenate([5 * g + rng.permutation(5)[:4] for g in genre])
    schema = Schema(("item_brand",), {"brand": Vocabulary("brand", ["a", "b"], buckets=1)})
    brands = np.array([2] * 5 + [3] * 5 + [2, 3])[:, None]
    data = plain(items, np.arange(0, 121, 4), N)
    return replace(data, item_side=Side(schema, brands, np.zeros((N, 0), np.float32)))


def test_a_new_item_is_found_by_its_features_alone() -> None:
    data = with_genres()
    model = Hybrid(HybridSettings(dim=8, batch=8, epochs=15, lr=0.02, warmup_steps=0, held=0)).fit(data)
    scores = model.scores([np.array([0, 1]), np.array([5, 6])])
    assert scores[0, 10] > scores[0, 11]
    assert scores[1, 11] > scores[1, 10]
    served = model.serves()
    assert served.item is not None
    assert data.item_side is not None
    with torch.no_grad():
        new = served.item(torch.from_numpy(data.item_side.ids[10:]), torch.zeros(2, 0))
    assert np.allclose(new.numpy(), served.vectors[10:], atol=1e-6)


def test_traits_say_something_before_the_first_acts_do() -> None:
    data = with_genres()
    schema = Schema(("user_country",), {"country": Vocabulary("country", ["x", "y"], buckets=1)})
    countries = 2 + np.arange(30)[:, None] % 2
    data = replace(data, user_side=Side(schema, countries, np.zeros((30, 0), np.float32)))
    model = Hybrid(HybridSettings(dim=8, batch=8, epochs=15, lr=0.02, warmup_steps=0, held=0, bare=0.2)).fit(data)
    towers = model.serves()
    query = inputs(torch.from_numpy(towers.vectors[[0, 0]])[:, None].repeat(1, HISTORY, 1), torch.ones(2, HISTORY))
    with torch.no_grad():
        people = towers.user(**query | {"ids": torch.tensor([[2], [3]])}).numpy()
    first, second = (people @ towers.vectors.T)[:, :10].reshape(2, 2, 5).mean(2)
    assert first[0] - first[1] > second[0] - second[1]


# ---------------------------------------------------------------------------------------------- who is held out


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, N - 1), max_size=6), min_size=1, max_size=40), st.integers(0, 5))
def test_at_most_a_tenth_lose_their_newest_act_and_nobody_their_only_one(walks: list[list[int]], most: int) -> None:
    data = plain(
        np.asarray([item for walk in walks for item in walk], np.int64),
        np.cumsum([0, *(len(walk) for walk in walks)]),
        N,
    )
    known, probe = held_out(data, most)
    assert len(probe.wanted) <= min(most, len(walks) // 10)
    left = [known.of(p).tolist() for p in range(len(walks))]
    asked = [p for p, walk in enumerate(walks) if left[p] != walk]
    assert [walks[p][:-1] for p in asked] == [left[p] for p in asked] == [h.tolist() for h in probe.histories]
    assert [walks[p][-1] for p in asked] == probe.wanted.tolist()
    assert all(len(h) and w not in h for h, w in zip(probe.histories, probe.wanted, strict=True))
    assert len(known.values) == len(known.at) == len(known.items)


class Newest(torch.nn.Module):
    """The vector of the newest item."""

    def forward(self, history: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        return history[:, -1]


def test_the_quality_is_the_ndcg_of_unseen_items() -> None:
    towers = Towers(np.eye(N, dtype=np.float32)[:, ::-1] * np.arange(1, N + 1, dtype=np.float32)[:, None], Newest())
    near = np.zeros(N)
    near[:6] = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]

    def asked(*pairs: tuple[list[int], int]) -> float | None:
        histories: list[Ints] = [np.asarray(history) for history, _ in pairs]
        return Probe(histories, np.asarray([wanted for _, wanted in pairs], np.int64)).ndcg(towers, near)

    assert asked() is None
    assert asked(([0], 1)) == 1.0  # what is seen does not stand before it
    assert asked(([7], 3)) == pytest.approx(1 / math.log2(5))
    assert asked(([0], 1), ([7], 3)) == pytest.approx((1 + 1 / math.log2(5)) / 2)


def test_a_fit_without_progress_stops_and_keeps_its_best_epoch() -> None:
    rng = np.random.default_rng(0)
    data = plain(rng.integers(N, size=400), np.arange(0, 401, 10), N)  # nothing to learn
    model = SasRec(SasRecSettings(dim=8, layers=1, epochs=40, lr=0.05, patience=2, held=4)).fit(data)
    history = model.history
    assert 3 <= len(history.losses) < 40
    assert history.best_epoch == len(history.losses) - 3 == int(np.argmax(history.qualities))


def test_people_with_a_single_act_teach_nothing_and_break_nothing() -> None:
    data = plain(np.arange(N), np.arange(N + 1), N)
    model = Gru4Rec(Gru4RecSettings(dim=8, hidden=8, epochs=1)).fit(data)
    assert np.isfinite(model.scores([np.array([1])])).all()
