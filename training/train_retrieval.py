"""Train the two-tower model of a home and leave a retrieval bundle: `python -m training.train_retrieval --home …`.

The story: fit vocabularies and scales, lay the acts out as sequences, train, count what goes with what, seal. Only
acts of `split.train` teach; the acts of `split.calibrate` choose the epoch and give the bundle's metrics.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

from training.batches import TrainingBatches, tensors
from training.companions import companions
from training.dataset import Dataset, load
from training.item_images import ItemImages, said
from training.loop import LoopSettings, fit, place, seed_everything
from training.models.two_tower import ITEM_ID, USER_ID, TowerSizes, TwoTower
from training.retrieval_bundle import Trained, write_bundle
from training.sequences import Sequences, Values, person_facts, person_view
from training.split import Split, split
from training.vector_index import AUTO
from winnow.acts import TYPES
from winnow.artifacts import Bundle
from winnow.encoding import Schema, Vocabulary, fit_scales, fit_vocabularies
from winnow.features import CLOCK, ITEM_TOWER, USER_TOWER, Ints, ItemView
from winnow.types import Floats

RARE_TOKENS = 2  # a word of fewer items shares a hash bucket, which trains the buckets for words still to come
PROBE = 6_040  # people whose next act is looked for after every epoch
PROBE_BATCH = 256
ITEM_BATCH = 4_096


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """How to train retrieval. `windows` sequences make a batch, each with up to `stride` targets."""

    loop: LoopSettings = field(default_factory=LoopSettings)
    sizes: TowerSizes = field(default_factory=TowerSizes)
    windows: int = 128
    stride: int = 50
    neighbours: int = 100  # entries per item of the follows and together tables
    threads: int = 0  # of torch; 0: its own choice
    index: str = AUTO  # kind of the vector index (training.vector_index)


PRESETS = {
    "quick": RetrievalSettings(LoopSettings(epochs=5, lr=2e-3, warmup_steps=50, patience=2), windows=32),
    "full": RetrievalSettings(LoopSettings(epochs=14, lr=2e-3, warmup_steps=200, patience=3), windows=32),
}


def preset(name: str, home: Path | None = None, seed: int = 0) -> RetrievalSettings:
    """A preset's settings; with a home, its checkpoint lies there."""
    chosen = PRESETS[name]
    checkpoint = None if home is None else home / "training" / f"retrieval-{name}-{seed}.ckpt"
    return replace(chosen, loop=replace(chosen.loop, seed=seed, checkpoint=checkpoint))


def train(
    dataset: Dataset,
    parts: Split,
    settings: RetrievalSettings,
    target: Path,
    progress: Progress | None = None,
) -> Bundle | None:
    """Train on `parts.train` and seal a bundle in `target/<id>`; None on every rank but the first.

    The same data, settings and seed give the same bundle on the same machine.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with place() as here:
        trained = fit_towers(dataset, parts, settings, progress)
        if here.rank:
            return None
        trained.model.eval().cpu()
        return write_bundle(
            dataset,
            trained,
            target,
            neighbours=settings.neighbours,
            metrics=measure(dataset, parts, trained),
            seed=settings.loop.seed,
            table=companions(dataset, parts, settings.neighbours),
            index=settings.index,
        )


def measure(dataset: Dataset, parts: Split, trained: Trained) -> dict[str, float]:
    """Of the towers alone, on held-out acts: recall@10, recall@100 and NDCG@10 over the whole catalogue."""
    places = Probe.of(dataset, parts, trained.every).places(trained.model)
    if not len(places):
        return {}
    return {
        "recall_at_10": round(float((places < 10).mean()), 6),
        "recall_at_100": round(float((places < 100).mean()), 6),
        "ndcg_at_10": round(gain(places), 6),
    }


def gain(places: Ints) -> float:
    """NDCG@10 with one right answer each, at these 0-based places."""
    return float(np.where(places < 10, 1 / np.log2(places + 2.0), 0.0).mean())


def fit_towers(dataset: Dataset, parts: Split, settings: RetrievalSettings, progress: Progress | None) -> Trained:
    """The trained network with all that encodes its inputs."""
    item_schema, user_schema = schemas_of(dataset, parts)
    item_ids, item_numbers = item_schema.encode([ItemView(item) for item in dataset.items])
    images = ItemImages.of(dataset.items) if settings.sizes.fusion else None
    if images is not None and progress is not None:
        progress.console.print(said(images.facts(), len(dataset.items)))
    values = Values.fit(dataset.acts.value[parts.train])
    every = Sequences.of(dataset, user_schema, person_facts(dataset, user_schema), values)
    known = every.restricted(parts.train)
    seed_everything(settings.loop.seed)
    model = TwoTower(
        item_schema,
        user_schema,
        settings.sizes,
        event_types=len(TYPES),
        item_ids=torch.from_numpy(item_ids),
        item_numbers=torch.from_numpy(item_numbers),
        item_buckets=torch.from_numpy(buckets_of(item_schema.vocabularies[ITEM_ID], dataset.item_ids)),
        user_buckets=torch.from_numpy(own_buckets(user_schema.vocabularies[USER_ID])),
        item_counts=torch.from_numpy(
            np.bincount(known.items()[known.wanted], minlength=len(dataset.items)).astype(np.float32)
        ),
        item_images=None if images is None else torch.from_numpy(images.vectors),
        image_centre=None if images is None else torch.from_numpy(images.centre()),
    )
    probe = Probe.of(dataset, parts, every)
    history = fit(
        model,
        TrainingBatches(known, settings.windows, settings.stride, settings.loop.seed),
        lambda towers, batch: towers(batch),
        replace(settings.loop, run=f"{dataset.snapshot} {int(parts.train.sum())} {settings.sizes} {settings.windows}"),
        on_epoch=lambda _, towers: probe.ndcg(towers),
        progress=progress,
        title="retrieval",
    )
    return Trained(model, item_schema, user_schema, item_ids, item_numbers, every, known, history, images)


def schemas_of(dataset: Dataset, parts: Split) -> tuple[Schema, Schema]:
    """Item and user schema. Ids are known when a training act names them; features that need a clock need a clock."""
    acted = occurring(dataset.acts.item[parts.train])
    views = [ItemView(item) for item in dataset.items]
    content = [name for name in ITEM_TOWER if name != ITEM_ID]
    vocabularies = fit_vocabularies(content, views, ())
    vocabularies |= fit_vocabularies(["item_tokens"], views, (), at_least=RARE_TOKENS)
    vocabularies[ITEM_ID] = Vocabulary(ITEM_ID, sorted(dataset.item_ids[acted]))
    names = tuple(n for n in USER_TOWER if dataset.clock == "real" or n not in CLOCK)
    people = [person_view(dataset, row) for row in occurring(dataset.acts.user[parts.train])]
    user_vocabularies = fit_vocabularies(names, (), people)
    for name, count in (("hour", 24), ("weekday", 7)):
        if name in user_vocabularies:
            user_vocabularies[name] = Vocabulary(name, [str(n) for n in range(count)])
    return (
        Schema(ITEM_TOWER, vocabularies, fit_scales(ITEM_TOWER, views, "item")),
        Schema(names, user_vocabularies),
    )


def occurring(rows: Ints) -> Ints:
    """The distinct rows, ascending: counted, as sorting many acts takes longer."""
    return np.flatnonzero(np.bincount(rows))


def buckets_of(vocabulary: Vocabulary, values: Any) -> Ints:
    """The hash bucket of each value."""
    return np.fromiter((vocabulary.bucket(str(value)) for value in values), np.int64, count=len(values))


def own_buckets(vocabulary: Vocabulary) -> Ints:
    """The hash bucket of each row of a vocabulary; rows that are no known value stay what they are."""
    rows = np.arange(len(vocabulary))
    rows[1 + vocabulary.buckets :] = buckets_of(vocabulary, vocabulary.values)
    return rows


@dataclass(frozen=True, eq=False)
class Probe:
    """Held-out acts of people, and what each had acted on before."""

    sequences: Sequences
    positions: Ints
    people: Ints
    n_items: int

    @classmethod
    def of(cls, dataset: Dataset, parts: Split, every: Sequences, most: int = PROBE) -> Probe:
        """The first held-out act of each person, of an item they had not acted on; at most `most`, spread evenly."""
        held = np.flatnonzero(parts.calibrate[every.act_rows] & every.wanted)
        people = every.person_of(held)
        _, first = np.unique(people, return_index=True)
        positions, people = held[first], people[first]
        fresh = np.asarray(
            [
                every.items(p) not in every.items(slice(every.starts[person], p))
                for p, person in zip(positions, people, strict=True)
            ],
            np.bool_,
        ).reshape(-1)
        keep = np.flatnonzero(fresh)
        keep = keep[np.linspace(0, len(keep) - 1, min(most, len(keep))).astype(np.int64)] if len(keep) else keep
        return cls(every, positions[keep], people[keep], len(dataset.items))

    @torch.no_grad()
    def places(self, model: TwoTower) -> Ints:
        """(probes,) how many unseen items the towers put before the one that came next."""
        device = model.scale.device
        items = torch.cat(
            [model.vectors_of(rows) for rows in torch.arange(self.n_items, device=device).split(ITEM_BATCH)]
        )
        found = []
        for start in range(0, len(self.positions), PROBE_BATCH):
            rows = slice(start, start + PROBE_BATCH)
            batch = {k: v.to(device) for k, v in tensors(self.sequences.before(self.positions[rows])).items()}
            history = items[batch["inputs"]] * (batch["inputs"] >= 0).unsqueeze(-1)
            people = model.user.after(batch["ids"], history, batch["types"], batch["values"])[:, 0]
            scores: Floats = (people @ items.T).cpu().numpy()
            for line, position, person in zip(scores, self.positions[rows], self.people[rows], strict=True):
                wanted = line[self.sequences.items(position)]
                line[self.sequences.items(slice(self.sequences.starts[person], position))] = -np.inf
                found.append(int((line > wanted).sum()))
        return np.asarray(found, np.int64)

    def ndcg(self, model: nn.Module) -> float | None:
        """NDCG@10 of the towers alone; None where nothing is held out."""
        assert isinstance(model, TwoTower)
        places = self.places(model)
        return gain(places) if len(places) else None


def main() -> None:
    """`python -m training.train_retrieval`, alone or under torchrun."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--purpose", choices=("serve", "evaluate"), default="serve")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="quick")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    console = Console(stderr=True)
    dataset = load(chosen.home)
    with place() as here, Progress(console=console, disable=here.rank > 0) as progress:
        settings = preset(chosen.preset, chosen.home, chosen.seed)
        parts = split(dataset, chosen.purpose)
        bundle = train(dataset, parts, settings, chosen.home / "bundles", progress)
        if bundle is not None:
            console.print(f"retrieval bundle {bundle.id}: {dict(bundle.metrics)}")


if __name__ == "__main__":
    main()
