"""Small real bundles for tests: right files, right signatures (docs/bundles.md), random weights from a seed.

Nothing is trained and torch is not imported (tests/graphs.py); 200 items take a fifth of a second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.graphs import DIM, EMBEDDING, HIDDEN, Ranker, item_tower, user_tower
from training.vector_index import built, saved
from winnow.artifacts import Bundle, seal, write_vocabularies
from winnow.candidate_features import candidate_names
from winnow.drift import Reference
from winnow.encoding import Schema, fit_scales, fit_vocabularies
from winnow.features import ITEM_TOWER, RANKER_ITEM, RANKER_USER, USER_TOWER, ItemStats, ItemView, UserView, item_digest
from winnow.inference import OnnxModel
from winnow.types import HISTORY, Context, EventType, History, Item, Person, UserState, strings

SOURCES = ("tower", "sequence", "item_to_item", "trending", "fresh", "text", "again")
STATS_AT = datetime(2025, 6, 1, tzinfo=UTC)
CATEGORIES = ("Comedy", "Drama", "Horror", "Western", "Musical", "War", "Thriller")
COLOURS = ("red", "green", "blue")


def make_items(n: int, seed: int = 0) -> list[Item]:
    """`n` items `i0`, `i1` … with titles, categories, brands, prices (some without) and attributes."""
    rng = np.random.default_rng(seed)
    prices, kinds = rng.gamma(2.0, 10.0, n).round(2), rng.integers(0, len(CATEGORIES), (n, 2))
    return [
        Item(
            item_id=f"i{row}",
            title=f"{CATEGORIES[kinds[row, 0]]} title number {row}",
            description=f"About word{row % 50} and word{row % 31}",
            categories=tuple(dict.fromkeys(CATEGORIES[kind] for kind in kinds[row])),
            brand=f"brand{row % 20}",
            price=None if row % 17 == 0 else float(prices[row]),
            currency="EUR",
            created_at=STATS_AT - timedelta(days=int(row % 1000)),
            attributes={"colour": COLOURS[row % 3], "year": str(1950 + row % 70)},
        )
        for row in range(n)
    ]


def make_user(user_id: str, item_ids: Sequence[str] = (), **facts: Any) -> UserState:
    """A person who clicked (every third time rated) the given items in this order, a day apart."""
    n = len(item_ids)
    types = [EventType.RATING if i % 3 == 2 else EventType.CLICK for i in range(n)]
    values = np.asarray([4.0 if t is EventType.RATING else math.nan for t in types], np.float32)
    at = STATS_AT.timestamp() + 86_400.0 * np.arange(n, dtype=np.float64)
    history = History(strings(item_ids), strings([t.value for t in types]), values, at)
    if n > HISTORY:
        history = History(history.item_ids[-HISTORY:], history.types[-HISTORY:], values[-HISTORY:], at[-HISTORY:])
    state: dict[str, Any] = {
        "known": n > 0,
        "traits": {"gender": "F", "age_group": "25", "occupation": "artist"},
        "history": history,
        "seen": strings(list(dict.fromkeys(item_ids))),
        "events": n,
        "watermark": n,
    }
    return UserState(Person(user_id=user_id), **(state | facts))


def make_views(items: Sequence[Item]) -> tuple[list[ItemView], list[UserView]]:
    """Views to fit vocabularies and scales on: every item, and a few dozen people with short histories."""
    found = {item.item_id: item for item in items}
    rng = np.random.default_rng(1)
    counts = rng.zipf(1.5, len(items)).clip(max=5000)
    item_views = [
        ItemView(item, ItemStats(float(count), float(count) / 2, 3.5), STATS_AT.timestamp())
        for item, count in zip(items, counts, strict=True)
    ]
    people = []
    for n in range(40):
        rows = rng.integers(0, len(items), n % 9)
        state = make_user(f"u{n}", [items[row].item_id for row in rows])
        people.append(UserView(state, Context("home", "phone", "DE", STATS_AT), found.get))
    return item_views, people


def write_stats(path: Path, views: Sequence[ItemView]) -> None:
    table = pa.table(
        {
            "item_id": pa.array([view.item.item_id for view in views], pa.string()),
            "count": pa.array([view.stats.count for view in views], pa.float64()),
            "recent": pa.array([view.stats.recent for view in views], pa.float64()),
            "mean_value": pa.array([view.stats.mean_value for view in views], pa.float64()),
        }
    )
    pq.write_table(table, path / "stats.parquet")


def run_model(path: Path, model: str, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """One model's sample inputs and outputs under their keys in samples.npz."""
    outputs = OnnxModel(path / f"{model}.onnx").run(inputs)
    return {f"{model}.in.{k}": v for k, v in inputs.items()} | {f"{model}.out.{k}": v for k, v in outputs.items()}


def neighbours(n: int, rng: np.random.Generator, k: int = 20) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Random neighbour tables (n, k): rows without the item itself, -1 where a list ends, falling scores."""
    k = max(1, min(k, n - 1))
    rows = (np.arange(n)[:, None] + rng.integers(1, max(n, 2), (n, k))) % n
    for row in range(n):
        _, first = np.unique(rows[row], return_index=True)
        repeated = np.setdiff1d(np.arange(k), first)
        rows[row, repeated] = -1
        rows[row] = np.concatenate([rows[row][rows[row] >= 0], rows[row][rows[row] < 0]])
    rows[rows == np.arange(n)[:, None]] = -1
    scores = np.sort(rng.random((n, k), np.float32), axis=1)[:, ::-1]
    return rows.astype(np.int32), np.where(rows < 0, 0, scores).astype(np.float32)


def tiny_retrieval_bundle(path: Path, items: Sequence[Item], *, index: str = "flat", seed: int = 0) -> Bundle:
    """Write, seal and open a retrieval bundle of these items in the folder `path`; `index` is a kind."""
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    item_views, people = make_views(items)
    vocabularies = fit_vocabularies((*ITEM_TOWER, *USER_TOWER), item_views, people)
    item_schema = Schema(ITEM_TOWER, vocabularies, fit_scales(ITEM_TOWER, item_views, "item"))
    user_schema = Schema(USER_TOWER, vocabularies, fit_scales(USER_TOWER, people, "user"))
    write_vocabularies(path, vocabularies)
    item_tower(path / "item_tower.onnx", item_schema, rng)
    user_tower(path / "user_tower.onnx", user_schema, rng)
    ids, numbers = item_schema.encode(item_views)
    vectors = OnnxModel(path / "item_tower.onnx").run({"ids": ids, "numbers": numbers})["vector"]
    (path / "item_ids.json").write_text(json.dumps([item.item_id for item in items]), encoding="utf-8")
    np.save(path / "item_digests.npy", np.asarray([item_digest(item) for item in items], np.uint64))
    np.save(path / "item_vectors.npy", vectors)
    saved(built(index, vectors, vectors[:20], 20)[0], path / "index.faiss")
    for table in ("follows", "together"):
        rows, scores = neighbours(len(items), rng)
        np.save(path / f"{table}_rows.npy", rows)
        np.save(path / f"{table}_scores.npy", scores)
    write_stats(path, item_views)
    history = np.zeros((8, HISTORY, DIM), np.float32)
    history[1:, -1], history[2:, -2] = vectors[:1], vectors[-1:]
    types = (np.abs(history).sum(axis=2) > 0).astype(np.int64)
    inputs = {
        "ids": user_schema.encode(people[:8])[0],
        "history": history,
        "history_types": types,
        "history_values": types.astype(np.float32) / 2,
    }
    samples = run_model(path, "item_tower", {"ids": ids[:8], "numbers": numbers[:8]})
    np.savez(path / "samples.npz", **samples, **run_model(path, "user_tower", inputs))
    facts = {
        "schemas": {"item_tower": item_schema.to_json(), "user_tower": user_schema.to_json()},
        "dim": DIM,
        "history": HISTORY,
        "event_types": [kind.value for kind in EventType],
        "value_mean": 3.5,
        "value_std": 1.1,
        "stats_at": STATS_AT.timestamp(),
        "items": len(items),
        "index": {"kind": index, "recall_at_100": 1.0, "bytes_per_item": 4 * DIM},
        "clock": "real",
    }
    return seal(path, "retrieval", facts=facts, metrics={"hr_at_10": 0.1}, data={"name": "tiny", "seed": seed})


def reference_of(schema: Schema, people: Sequence[UserView], samples: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """What a made-up training saw: the samples' scores, and these people's numbers."""
    names = [feature.name for feature in schema.numeric]
    columns = [samples["cross.out.heads"][..., 0].ravel(), *schema.encode(people)[1].T]
    return Reference.of(("score", *names), columns).to_json()


def tiny_ranking_bundle(path: Path, items: Sequence[Item], *, seed: int = 0) -> Bundle:
    """Write, seal and open a ranking bundle over these items in the folder `path`."""
    path.mkdir(parents=True, exist_ok=True)
    item_views, people = make_views(items)
    vocabularies = fit_vocabularies((*RANKER_ITEM, *RANKER_USER), item_views, people)
    item_schema = Schema(RANKER_ITEM, vocabularies, fit_scales(RANKER_ITEM, item_views, "item"))
    user_schema = Schema(RANKER_USER, vocabularies, fit_scales(RANKER_USER, people, "user"))
    names = candidate_names(SOURCES)
    write_vocabularies(path, vocabularies)
    Ranker(user_schema, item_schema, len(names), seed).save(path)
    write_stats(path, item_views)
    users = dict(zip(("ids", "numbers"), user_schema.encode(people[:2]), strict=True))
    some = dict(zip(("ids", "numbers"), item_schema.encode(item_views[:6]), strict=True))
    samples = run_model(path, "user_net", users) | run_model(path, "item_net", some)
    candidates = np.random.default_rng(seed).random((2, len(some["ids"]), len(names)), np.float32)
    cross = {
        "user_vectors": samples["user_net.out.vectors"],
        "user_hidden": samples["user_net.out.hidden"],
        "item_vectors": np.stack([samples["item_net.out.vectors"]] * 2),
        "item_hidden": np.stack([samples["item_net.out.hidden"]] * 2),
        "candidates": candidates,
    }
    np.savez(path / "samples.npz", **samples, **run_model(path, "cross", cross))
    facts = {
        "schemas": {"user": user_schema.to_json(), "item": item_schema.to_json()},
        "candidates": list(names),
        "sizes": {
            "user_vectors": user_schema.width + 1,
            "item_vectors": item_schema.width + 1,
            "embedding": EMBEDDING,
            "hidden": HIDDEN,
        },
        "stats_at": STATS_AT.timestamp(),
        "retrieval": "",
        "clock": "real",
        "reference": reference_of(user_schema, people, samples | run_model(path, "cross", cross)),
    }
    return seal(path, "ranking", facts=facts, metrics={"auc_click": 0.6}, data={"name": "tiny", "seed": seed})
