"""What the ranker learns from: lists of candidates as they were shown, or would have been, with what happened then.

Point-in-time: a list is what retrieval answers to the state before the moment; a person is encoded from that state,
an item from the statistics that the retrieval bundle holds, all of them older than the lists of a split by time.

Lists of the part `rank` are thinned: the acted-on candidate, the top of the list, and some of the rest, each row with
a weight that says how many rows it stands for. A moment whose act was not in the list teaches nothing about order and
is left out there; among the lists of `calibrate`, which are whole, it stays, so that probabilities say what serving
will meet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from training.dataset import Dataset, Rows
from training.lists import PARTS, Asker, ImpressionSettings, Lists, Part, empty_lists
from training.moments import Moment, moments
from training.ranker_schemas import RankerSchemas, fit_schemas, item_views
from training.split import Split
from winnow.artifacts import Bundle, write_vocabularies
from winnow.encoding import Schema, Vocabulary
from winnow.errors import FailedPrecondition
from winnow.ports import Retrieval
from winnow.types import Floats

FORMAT = 5  # raised when the same settings begin to mean other lists
CHUNK = 512  # moments per file; a killed build goes on after the last whole file
KEPT = 2  # sets of lists that stay in a folder: of serving and of evaluation


@dataclass(frozen=True, eq=False)
class Impressions:
    """All that training the ranker needs, from the folder `path`: lists, items as the model sees them, and `facts`."""

    path: Path
    rank: Lists
    calibrate: Lists
    schemas: RankerSchemas
    item_ids: Rows  # (N, W)
    item_numbers: Floats  # (N, D)
    facts: Mapping[str, Any]

    @property
    def vocabularies(self) -> Mapping[str, Vocabulary]:
        return self.schemas.item.vocabularies


async def build(
    dataset: Dataset,
    split: Split,
    retrieval: Retrieval,
    bundle: Bundle,
    folder: Path,
    settings: ImpressionSettings = ImpressionSettings(),
    progress: Progress | None = None,
) -> Impressions:
    """Lists of the parts `rank` and `calibrate`, in a folder of their own below `folder`, named after their content.

    `bundle` is the retrieval bundle that `retrieval` serves. What is there already is not asked again, also after a
    kill; all but the newest `KEPT` sets of lists are deleted. FailedPrecondition when retrieval serves another bundle, or there is nothing to learn from.
    """
    key = key_of(dataset, split, bundle, settings)
    path = folder / f"impressions-{key}"
    if (path / "facts.json").exists():
        return load(path)
    found = moments(dataset, split)
    chosen: dict[Part, list[Moment]] = {
        "rank": sampled(found.rank, settings.rank_moments, settings.seed),
        "calibrate": sampled(found.calibrate, settings.calibrate_moments, settings.seed),
    }
    if not chosen["rank"]:
        raise FailedPrecondition(f"{dataset.name} has no act to train the ranker on")
    path.mkdir(parents=True, exist_ok=True)
    views = item_views(dataset, bundle)
    schemas = fit_schemas(dataset, views, chosen["rank"], settings.fitted_on)
    asker = Asker(dataset, retrieval, bundle, schemas.user, settings)
    await asker.start(chosen["rank"][0])
    await write_lists(asker, chosen, path, progress)
    write_vocabularies(path, schemas.item.vocabularies)
    ids, numbers = schemas.item.encode(views)
    replace_npz(path / "items.npz", {"ids": ids, "numbers": numbers})
    shutil.copyfile(bundle.file("stats.parquet"), path / "stats.parquet")
    facts = {
        "key": key,
        "schemas": {"user": schemas.user.to_json(), "item": schemas.item.to_json()},
        "candidates": list(asker.names),
        "retrieval": bundle.id,
        "stats_at": bundle.facts["stats_at"],
        "clock": dataset.clock,
        "dataset": dataset.name,
        "snapshot": dataset.snapshot,
        "settings": asdict(settings),
        "moments": {part: len(chosen[part]) for part in PARTS},
    }
    replace_text(path / "facts.json", json.dumps(facts, sort_keys=True))
    drop_old(folder)
    return load(path)


def load(path: Path) -> Impressions:
    """Lists that `build` finished."""
    facts = json.loads((path / "facts.json").read_text(encoding="utf-8"))
    entries = json.loads((path / "vocabularies.json").read_text(encoding="utf-8"))
    vocabularies = {name: Vocabulary(name, e["values"], e["buckets"]) for name, e in entries.items()}
    schemas = RankerSchemas(*(Schema.from_json(facts["schemas"][side], vocabularies) for side in ("user", "item")))
    lists = {part: load_lists(path, part, facts["moments"][part], schemas, len(facts["candidates"])) for part in PARTS}
    with np.load(path / "items.npz", allow_pickle=False) as items:
        return Impressions(path, lists["rank"], lists["calibrate"], schemas, items["ids"], items["numbers"], facts)


def load_lists(path: Path, part: Part, total: int, schemas: RankerSchemas, candidates: int) -> Lists:
    parts = [empty_lists(schemas.user, candidates)]
    for start in range(0, total, CHUNK):
        with np.load(path / chunk_name(part, start), allow_pickle=False) as columns:
            parts.append(Lists(**{f.name: columns[f.name] for f in fields(Lists)}))
    return Lists.joined(parts)


async def write_lists(
    asker: Asker, chosen: Mapping[Part, Sequence[Moment]], path: Path, progress: Progress | None
) -> None:
    """A file per chunk of moments, unless it is there."""
    task = progress.add_task("asking retrieval", total=sum(map(len, chosen.values()))) if progress else None
    for part in PARTS:
        for start in range(0, len(chosen[part]), CHUNK):
            chunk, file = chosen[part][start : start + CHUNK], path / chunk_name(part, start)
            if not file.exists():
                lists = await asker.lists(chunk, part, np.random.default_rng((asker.settings.seed, start)))
                replace_npz(file, {f.name: getattr(lists, f.name) for f in fields(Lists)})
            if progress is not None and task is not None:
                progress.advance(task, len(chunk))


def sampled(found: Sequence[Moment], limit: int, seed: int) -> list[Moment]:
    """At most `limit` moments, in the order given."""
    if len(found) <= limit:
        return list(found)
    kept = np.random.default_rng(seed).choice(len(found), limit, replace=False)
    return [found[row] for row in np.sort(kept)]


# ---------------------------------------------------------------------------------------------- files


def key_of(dataset: Dataset, split: Split, bundle: Bundle, settings: ImpressionSettings) -> str:
    """16 hex digits over everything that decides the lists."""
    masks = hashlib.sha256(np.packbits(split.rank).tobytes() + np.packbits(split.calibrate).tobytes()).hexdigest()
    whole = json.dumps([FORMAT, dataset.snapshot, masks, bundle.id, asdict(settings), dataset.positive_value])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def chunk_name(part: str, start: int) -> str:
    return f"{part}-{start:08d}.npz"


def replace_npz(file: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with beside.open("wb") as stream:
        np.savez(stream, **columns)  # type: ignore[arg-type]
    beside.replace(file)


def replace_text(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)


def drop_old(folder: Path) -> None:
    """Delete all sets of lists but the newest."""
    found = sorted(folder.glob("impressions-*"), key=lambda path: path.stat().st_mtime)
    for old in found[:-KEPT]:
        shutil.rmtree(old)
