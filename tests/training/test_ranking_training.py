"""Training the ranker, from lists to a bundle that serving takes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from typer.testing import CliRunner

from cli.main import app
from services.ranking.bundle import load as load_for_serving
from tests.training.worlds import ShuffledRetrieval, colour_world
from training import train_ranking
from training.impressions import Impressions, build
from training.lists import ImpressionSettings
from training.loop import LoopSettings
from training.models.rankers import RANKERS
from training.ranking_loss import LossWeights, list_loss, loss_of
from training.split import split
from training.train_ranking import RankingSettings, fit_ranker, logits_of, train
from winnow.artifacts import Bundle, open_bundle
from winnow.drift import shares_of
from winnow.inference import InProcess, OnnxModel, check_samples

QUICK = RankingSettings(loop=LoopSettings(epochs=12, lr=3e-3, weight_decay=1e-2, warmup_steps=5), moments=64, threads=1)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Impressions:
    """Of a world where everybody acts on one colour, and retrieval knows nothing."""
    path: Path = tmp_path_factory.mktemp("colours")
    dataset = colour_world(path / "home", people=240, acts=24)
    parts = split(dataset, "serve")
    retrieval = ShuffledRetrieval(dataset, parts.train, path / "bundle")
    asked = ImpressionSettings(candidates=60, top=4, negatives=16)
    return asyncio.run(build(dataset, parts, retrieval, retrieval.bundle, path / "lists", asked))


KINDS = {
    "dlrm": QUICK,
    "dcn_v2": replace(QUICK, model="dcn_v2"),
    "deepfm": replace(QUICK, model="deepfm", calibration="isotonic"),
}


@pytest.fixture(scope="module", params=KINDS)
def settings(request: pytest.FixtureRequest) -> RankingSettings:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def bundle(settings: RankingSettings, lists: Impressions, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    found = train(lists, settings, tmp_path_factory.mktemp("bundles"))
    assert found is not None
    return found


def test_every_ranker_is_tried() -> None:
    assert set(KINDS) == set(RANKERS)


def test_the_ranker_finds_the_answer_that_retrieval_cannot_see(bundle: Bundle) -> None:
    metrics = bundle.metrics
    assert metrics["ndcg_at_10"] > 2 * metrics["ndcg_at_10_retrieval"]
    assert metrics["auc_click"] > 0.8


def test_whether_it_converts_is_visible_too(bundle: Bundle, lists: Impressions) -> None:
    """Items of even numbers convert, others do not, and nothing but their ids says so."""
    some = lists.calibrate
    of = np.repeat(np.arange(len(some)), np.diff(some.starts))
    inputs = {"user_ids": some.user_ids[of], "user_numbers": some.user_numbers[of], "candidates": some.candidates}
    inputs |= {"item_ids": lists.item_ids[some.item], "item_numbers": lists.item_numbers[some.item]}
    click, convert, _ = OnnxModel(bundle.file("plain.onnx")).run(inputs)["heads"].T
    given = convert / click
    assert given[some.item % 2 == 0].mean() > 1.5 * given[some.item % 2 == 1].mean()
    assert some.convert[some.item % 2 == 1].sum() == 0


def test_every_head_is_calibrated_on_lists_it_was_not_fitted_on(bundle: Bundle) -> None:
    metrics = bundle.metrics
    for head in ("click", "convert", "value"):
        assert metrics[f"ece_{head}"] < 0.7 * metrics[f"mean_{head}"]
        assert metrics[f"ece_{head}"] < 1.1 * metrics[f"ece_{head}_before"]
        assert 0 < metrics[f"ece_{head}.popularity_low"] < 1


def test_the_ranker_beats_a_constant(bundle: Bundle) -> None:
    metrics = bundle.metrics
    for head in ("click", "convert"):
        share = metrics[f"mean_{head}"]
        constant = -share * np.log(share) - (1 - share) * np.log1p(-share)
        assert metrics[f"log_loss_{head}"] < 0.9 * constant


def test_the_bundle_is_one_that_serving_takes(bundle: Bundle, lists: Impressions) -> None:
    loaded = load_for_serving(open_bundle(bundle.path, "ranking"), InProcess())
    assert loaded.id == bundle.id == bundle.path.name
    assert bundle.facts["model"] in RANKERS
    assert loaded.candidates == tuple(lists.facts["candidates"])
    check_samples(bundle.file("samples.npz"), {"plain": OnnxModel(bundle.file("plain.onnx"))})
    assert bundle.facts["retrieval"] == lists.facts["retrieval"]
    assert bundle.file("stats.parquet").read_bytes() == (lists.path / "stats.parquet").read_bytes()


def test_the_bundle_keeps_what_its_training_saw(bundle: Bundle, lists: Impressions) -> None:
    reference = load_for_serving(open_bundle(bundle.path, "ranking"), InProcess()).reference
    assert reference is not None
    assert reference.names == ("score", *(feature.name for feature in lists.schemas.user.numeric))
    numbers = lists.calibrate.user_numbers
    seen = shares_of(reference.count(np.concatenate([np.zeros((len(numbers), 1)), numbers], axis=1)))
    assert np.allclose(seen[1:], reference.shares[1:], atol=1e-5)
    assert reference.shares[0].max() < 0.2, "scores are parted into tenths"


def test_thinned_lists_still_teach_the_base_rate(lists: Impressions) -> None:
    """Before calibration: without weights the mean would be that of thinned lists, several times higher."""
    model = fit_ranker(lists, replace(QUICK, loss=LossWeights(listwise=0.0))).eval()
    rank = lists.rank
    predicted = expit(logits_of(model, lists, rank)[:, 0])
    assert np.average(predicted, weights=rank.weight) == pytest.approx(
        np.average(rank.click, weights=rank.weight), rel=0.3
    )
    assert np.average(rank.click) > 2 * np.average(rank.click, weights=rank.weight)


@pytest.mark.parametrize("settings", ["dlrm"], indirect=True)
def test_a_killed_training_goes_on_and_leaves_the_same_bundle(
    settings: RankingSettings, bundle: Bundle, lists: Impressions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = replace(settings.loop, checkpoint=tmp_path / "ranking.ckpt", checkpoint_every_s=0.0)
    calls = 0

    def killed(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 17:
            raise KeyboardInterrupt
        return loss_of(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(train_ranking, "loss_of", killed)
        with pytest.raises(KeyboardInterrupt):
            train(lists, replace(settings, loop=loop), tmp_path / "bundles")
    assert not list((tmp_path / "bundles").glob("*")) if (tmp_path / "bundles").exists() else True
    resumed = train(lists, replace(settings, loop=loop), tmp_path / "bundles")
    assert resumed is not None
    assert resumed.id == bundle.id


@pytest.mark.parametrize("name", RANKERS)
def test_a_seed_decides_the_weights(name: str, lists: Impressions) -> None:
    weights = []
    for seed in (0, 0, 1):
        loop = replace(QUICK.loop, epochs=1, seed=seed)
        weights.append(fit_ranker(lists, replace(QUICK, model=name, loop=loop, moments=512)).state_dict())
    one, same, other = weights
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["first.weight"], other["first.weight"])


def test_padding_a_list_changes_neither_its_loss_nor_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(2, 5, 3)).astype(np.float32))
    batch = {name: torch.zeros(2, 5) for name in ("click", "convert", "value")}
    batch["weight"] = torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 4.0]])
    batch["click"][:, 0] = 1.0
    both = loss_of(logits, batch, LossWeights())
    one = loss_of(logits[:1, :3], {name: column[:1, :3] for name, column in batch.items()}, LossWeights())
    other = loss_of(logits[1:], {name: column[1:] for name, column in batch.items()}, LossWeights())
    assert float(both) == pytest.approx((float(one) + float(other)) / 2, rel=1e-5)


def test_a_row_of_weight_three_counts_as_three_rows() -> None:
    logit = torch.tensor([[0.3, -1.0, -1.0, -1.0]])
    whole = list_loss(logit, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.ones(1, 4))
    thin = list_loss(logit[:, :2], torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 3.0]]))
    assert float(whole) == pytest.approx(float(thin), rel=1e-6)


def test_two_processes_train_one_ranker(lists: Impressions, tmp_path: Path) -> None:
    """As `torchrun` starts them; the first one leaves the bundle."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    module = ["-m", "training.train_ranking", "--home", str(tmp_path), "--impressions", str(lists.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *module], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    [path] = (tmp_path / "bundles").iterdir()
    assert open_bundle(path, "ranking").metrics["auc_click"] > 0.5


@pytest.mark.parametrize(
    ("lists", "moments", "epochs"), [(900, 16, 6), (40_000, 128, 2), (9_000, 60, 2), (40, 16, 10), (1, 16, 10)]
)
def test_few_lists_are_learnt_from_longer(lists: int, moments: int, epochs: int) -> None:
    settings = RankingSettings(loop=LoopSettings(epochs=2), moments=128, least_steps=300)
    paced = train_ranking.paced(settings, lists)
    assert (paced.moments, paced.loop.epochs) == (moments, epochs)


@pytest.mark.parametrize(
    ("lists", "moments", "epochs"), [(5_762, 153, 8), (48_562, 256, 3), (15_001, 150, 3), (900, 30, 10), (0, 16, 10)]
)
def test_few_lists_are_seen_more_often(lists: int, moments: int, epochs: int) -> None:
    paced = train_ranking.paced(train_ranking.PRESETS["full"], lists)
    assert (paced.moments, paced.loop.epochs) == (moments, epochs)


def test_small_batches_and_many_epochs_that_were_asked_for_stay() -> None:
    small = RankingSettings(loop=LoopSettings(epochs=30), moments=8, least_steps=300)
    assert train_ranking.paced(small, 1_000) == small
    assert train_ranking.paced(QUICK, 10) == QUICK


@pytest.mark.parametrize(("kind", "option"), [("ranking", "--model"), ("retrieval", "--fusion")])
def test_a_model_that_there_is_not_is_refused_before_any_work(kind: str, option: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["train", kind, "--home", str(tmp_path / "nowhere"), option, "perceptron"])
    assert refused.exit_code == 2
    assert not (tmp_path / "nowhere").exists()
