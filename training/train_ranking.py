"""Train the ranker on the lists of a home and leave a ranking bundle: `python -m training.train_ranking --home …`.

The story: lay the lists out as batches of moments, train, calibrate on whole lists of later moments, measure against
retrieval's own order, export, seal.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from training.calibration import KINDS, Calibration, Kind, fit_calibration
from training.dataset import Rows
from training.impressions import Impressions, load
from training.lists import Lists
from training.loop import Batch, LoopSettings, fit, place, seed_everything, shuffled
from training.models.ranker import TOP, Inputs, Range, Ranker, Regularisation, Top
from training.models.rankers import RANKERS
from training.ranking_bundle import write_bundle
from training.ranking_loss import LossWeights, loss_of
from training.ranking_measures import measure
from training.reference import reference_of
from training.split import Mask
from winnow.artifacts import Bundle
from winnow.errors import FailedPrecondition, NotFound
from winnow.types import Floats

MEASURED = 4  # whole lists scored at a time: what they need stays in the cache


@dataclass(frozen=True, slots=True)
class RankingSettings:
    """How to train the ranker; a batch is `moments` lists. `model` is one of `RANKERS`."""

    loop: LoopSettings = field(default_factory=lambda: LoopSettings(epochs=2, lr=3e-3, weight_decay=1e-2))
    regularisation: Regularisation = field(default_factory=Regularisation)
    loss: LossWeights = field(default_factory=LossWeights)
    moments: int = 128
    threads: int = 0  # of torch; 0: its own choice
    least_steps: int = 0  # taken also on few lists, by smaller batches and more epochs (`paced`)
    least_seen: int = 0  # lists, over all epochs together
    model: str = "dlrm"
    top: Top = TOP  # widths of the hidden layers: what most of a candidate's time goes into
    calibration: Kind = "platt"


LEAST_STEPS, MOST_EPOCHS = 300, 10
# A shop of 5,762 lists goes over them eight times: best by AUC and log loss of later moments (LOG.md).
LEAST_SEEN = 45_000
SMALLEST_BATCH = 16  # moments
FORGETFUL = Regularisation(forget=0.7)  # on ml-1m best by far: what else it knows, it knows by heart
PRESETS = {
    "quick": RankingSettings(regularisation=FORGETFUL, least_steps=LEAST_STEPS),
    "full": RankingSettings(
        loop=LoopSettings(epochs=3, lr=3e-3, weight_decay=1e-2),
        regularisation=FORGETFUL,
        moments=256,
        least_steps=LEAST_STEPS,
        least_seen=LEAST_SEEN,
    ),
}


def preset(
    name: str, home: Path | None = None, seed: int = 0, model: str = "dlrm", calibration: Kind = "platt"
) -> RankingSettings:
    """A preset's settings; with a home, its checkpoint lies there."""
    chosen = PRESETS[name]
    checkpoint = None if home is None else home / "training" / f"ranking-{model}-{name}-{seed}.ckpt"
    loop = replace(chosen.loop, seed=seed, checkpoint=checkpoint)
    return replace(chosen, model=model, calibration=calibration, loop=loop)


def train(
    impressions: Impressions, settings: RankingSettings, target: Path, progress: Progress | None = None
) -> Bundle | None:
    """Train, calibrate and seal a bundle in `target/<id>`; None on every rank but the first.

    The same lists, settings and seed give the same bundle on the same machine.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with place() as here:
        model = fit_ranker(impressions, settings, progress)
        if here.rank:
            return None
        model.cpu().eval()
        metrics = calibrate(model, impressions, settings.calibration)
        reference = reference_of(impressions, lambda lists: clicks_of(model, impressions, lists))
        return write_bundle(model, impressions, target, metrics=metrics, seed=settings.loop.seed, reference=reference)


def paced(settings: RankingSettings, lists: int) -> RankingSettings:
    """Settings under which also few lists are seen often enough and make a few hundred steps: more epochs, smaller
    batches, then still more epochs. The published sizes are for tens of thousands of lists; a young shop's thousand would
    be over after a dozen steps."""

    def at_most(epochs: int) -> int:
        return max(min(epochs, MOST_EPOCHS), settings.loop.epochs)

    epochs, moments = at_most(-(-settings.least_seen // max(lists, 1))), settings.moments
    if settings.least_steps:
        smallest = min(settings.moments, SMALLEST_BATCH)
        moments = min(max(lists * epochs // settings.least_steps, smallest), settings.moments)
        epochs = max(epochs, at_most(-(-settings.least_steps // max(-(-lists // moments), 1))))
    return replace(settings, moments=moments, loop=replace(settings.loop, epochs=epochs))


def fit_ranker(impressions: Impressions, settings: RankingSettings, progress: Progress | None = None) -> Ranker:
    """The network after training, not yet calibrated."""
    settings = paced(settings, len(impressions.rank))
    lists, loop = impressions.rank, settings.loop
    seed_everything(loop.seed)
    model = make_model(impressions, settings)
    scale = float(model.value_scale)

    def batches(epoch: int, rank: int, world: int) -> Iterator[Batch]:
        for moments in shuffled(len(lists), settings.moments, loop.seed, epoch, rank, world):
            yield batch_of(impressions, lists, moments, scale)

    shape = f"{settings.model} {settings.top} {settings.regularisation}"
    run = f"{shape} {impressions.facts['key']} {settings.moments} {settings.loss}"
    fit(
        model,
        batches,
        lambda ranker, batch: loss_of(ranker(batch), batch, settings.loss),
        replace(loop, run=run),
        progress=progress,
        title="ranking",
    )
    return model


def make_model(impressions: Impressions, settings: RankingSettings) -> Ranker:
    """An untrained ranker that predicts the base rates."""
    lists, schemas = impressions.rank, impressions.schemas
    if not len(lists.user_numbers):
        raise FailedPrecondition("no list of candidates held what somebody then did: the ranker needs more events")
    inputs = Inputs(
        schemas.user,
        schemas.item,
        Range.of(lists.user_numbers),
        Range.of(impressions.item_numbers),
        lists.candidates,
    )
    model = RANKERS[settings.model].make(inputs, settings.regularisation, settings.top)
    clicks, converts = float(lists.click.sum()), float(lists.convert.sum())
    worth = float(lists.value[lists.click].mean()) if clicks else 0.0
    with torch.no_grad():
        model.value_scale.fill_(worth if worth > 0 else 1.0)
        model.heads.weight.mul_(0.1)
        model.heads.bias.copy_(
            torch.tensor([odds(clicks, float(lists.weight.sum())), odds(converts, clicks), float(np.log(np.e - 1.0))])
        )
    return model


def odds(part: float, whole: float) -> float:
    """The logit of a share, with half an observation on either side."""
    return float(np.log((part + 0.5) / (max(whole - part, 0.0) + 0.5)))


def batch_of(impressions: Impressions, lists: Lists, moments: Rows, value_scale: float) -> Batch:
    """The lists of some moments, padded to the longest with rows of weight 0."""
    starts, sizes = lists.starts[moments], lists.starts[moments + 1] - lists.starts[moments]
    steps = np.arange(max(int(sizes.max()), 1))
    real = steps < sizes[:, None]
    rows = np.where(real, starts[:, None] + steps, 0)
    items = lists.item[rows]
    columns = {
        "user_ids": lists.user_ids[moments],
        "user_numbers": lists.user_numbers[moments],
        "item_ids": impressions.item_ids[items],
        "item_numbers": impressions.item_numbers[items],
        "candidates": lists.candidates[rows],
        "click": (lists.click[rows] & real).astype(np.float32),
        "convert": (lists.convert[rows] & real).astype(np.float32),
        "value": lists.value[rows] / np.float32(value_scale),
        "weight": lists.weight[rows] * real,
    }
    return {name: torch.from_numpy(column) for name, column in columns.items()}


# ---------------------------------------------------------------------------------------------- after training


@torch.no_grad()
def logits_of(model: Ranker, impressions: Impressions, lists: Lists) -> Floats:
    """(r, 3) logits of all rows of whole lists; items of a batch are computed once."""
    found = [np.empty((0, 3), np.float32)]
    for start in range(0, len(lists), MEASURED):
        moments = np.arange(start, min(start + MEASURED, len(lists)))
        found.append(batch_logits(model, impressions, lists, moments))
    return np.concatenate(found)


@torch.no_grad()
def clicks_of(model: Ranker, impressions: Impressions, lists: Lists) -> Floats:
    """(r,) calibrated P(click) of all rows of whole lists."""
    clicks: Floats = model.calibrated(torch.from_numpy(logits_of(model, impressions, lists)))[:, 0].numpy()
    return clicks


def batch_logits(model: Ranker, impressions: Impressions, lists: Lists, moments: Rows) -> Floats:
    sizes = lists.starts[moments + 1] - lists.starts[moments]
    real = np.arange(max(int(sizes.max()), 1)) < sizes[:, None]
    rows = slice(lists.starts[moments[0]], lists.starts[moments[-1] + 1])
    items, inverse = np.unique(lists.item[rows], return_inverse=True)
    place = np.zeros(real.shape, np.int64)
    place[real] = inverse
    candidates = np.zeros((*real.shape, lists.candidates.shape[1]), np.float32)
    candidates[real] = lists.candidates[rows]
    user = model.user(torch.from_numpy(lists.user_ids[moments]), torch.from_numpy(lists.user_numbers[moments]))
    item = model.item(torch.from_numpy(impressions.item_ids[items]), torch.from_numpy(impressions.item_numbers[items]))
    logits: Tensor = model.cross(*user, item[0][place], item[1][place], torch.from_numpy(candidates))
    every: Floats = logits.numpy()
    return every[real]


def calibrate(model: Ranker, impressions: Impressions, kind: Kind = "platt") -> dict[str, float]:
    """Fit the model's calibration on the lists `calibrate`, and measure.

    What is said of calibrated predictions is cross-fitted: each half of the lists is predicted by the fit on the other.
    """
    lists = impressions.calibrate
    if not len(lists.item):
        return {}
    logits, scale = logits_of(model, impressions, lists), float(model.value_scale)
    before = Calibration().heads(logits, scale)
    after = np.empty_like(before)
    late = np.arange(len(logits)) >= lists.starts[len(lists) // 2]
    for half in (late, ~late):
        if half.any():
            on = ~half if (~half).any() else half
            after[half] = fitted(logits, lists, on, scale, kind).heads(logits[half], scale)
    take(model, fitted(logits, lists, np.ones(len(logits), np.bool_), scale, kind))
    return measure(impressions, lists, before, after)


def fitted(logits: Floats, lists: Lists, rows: Mask, scale: float, kind: Kind) -> Calibration:
    return fit_calibration(logits[rows], lists.click[rows], lists.convert[rows], lists.value[rows], scale, kind)


def take(model: Ranker, found: Calibration) -> None:
    """Put a calibration into the model; heads with fewer corners get some that bend nothing."""
    corners = max(map(len, found.knots))
    padded = [[(*line, *[0.0] * (corners - len(line))) for line in lines] for lines in (found.knots, found.bends)]
    model.slopes, model.shifts = torch.tensor(found.slopes), torch.tensor(found.shifts)
    model.knots, model.bends = (torch.tensor(lines).reshape(3, corners) for lines in padded)


def main() -> None:
    """`python -m training.train_ranking`, alone or under torchrun."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument(
        "--impressions", type=Path, help="a folder that training.impressions.build left; default: the home's"
    )
    parser.add_argument("--model", choices=list(RANKERS), default="dlrm")
    parser.add_argument("--calibration", choices=KINDS, default="platt")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="quick")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    console = Console(stderr=True)
    impressions = load(chosen.impressions or newest(chosen.home / "training"))
    with place() as here, Progress(console=console, disable=here.rank > 0) as progress:
        settings = preset(chosen.preset, chosen.home, chosen.seed, chosen.model, chosen.calibration)
        bundle = train(impressions, settings, chosen.home / "bundles", progress)
        if bundle is not None:
            console.print(f"ranking bundle {bundle.id}: {dict(bundle.metrics)}")


def newest(folder: Path) -> Path:
    """The lists of a home; NotFound where none are finished."""
    found = sorted(folder.glob("impressions-*/facts.json"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise NotFound(f"no impressions in {folder}; they come from training.impressions.build")
    return found[-1].parent


if __name__ == "__main__":
    main()
