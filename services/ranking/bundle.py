"""Loads a ranking bundle (docs/bundles.md) and checks everything that serving relies on, or refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.ranking.drift import SCORE, arranged
from winnow.artifacts import Bundle
from winnow.drift import Reference
from winnow.encoding import Schema
from winnow.errors import BundleRefused
from winnow.features import ItemStats
from winnow.inference import Model, ModelHost, check_samples, check_tables
from winnow.types import HEADS


@dataclass(frozen=True, eq=False)
class RankingBundle:
    """A checked bundle in memory."""

    id: str
    user_schema: Schema
    item_schema: Schema
    user_net: Model
    item_net: Model
    cross: Model
    candidates: tuple[str, ...]  # columns for `winnow.candidate_features.candidate_numbers`
    item_vectors: int
    embedding: int
    hidden: int
    stats: Mapping[str, ItemStats]
    stats_at: float
    reference: Reference | None = None  # of its scores and of people's numbers, where the bundle brings one


def load(bundle: Bundle, host: ModelHost) -> RankingBundle:
    """Read the files of an opened bundle, load its models on `host` and check both; BundleRefused with the reason.
    What else the host raises says nothing about the bundle."""
    try:
        return _load(bundle, host)
    except (KeyError, ValueError, TypeError, OSError, pa.ArrowException) as wrong:
        raise BundleRefused(f"{bundle.path.name}: {type(wrong).__name__}: {wrong}") from wrong


def _load(bundle: Bundle, host: ModelHost) -> RankingBundle:
    facts, vocabularies = bundle.facts, bundle.vocabularies()
    sizes = {name: int(facts["sizes"][name]) for name in ("user_vectors", "item_vectors", "embedding", "hidden")}
    models = host.load(bundle, ("user_net", "item_net", "cross"))
    check_samples(bundle.file("samples.npz"), models)
    schemas = {name: Schema.from_json(facts["schemas"][name], vocabularies) for name in ("user", "item")}
    for name, schema in schemas.items():
        check_tables(f"{name}_net", models[f"{name}_net"], schema)
    loaded = RankingBundle(
        id=bundle.id,
        user_schema=schemas["user"],
        item_schema=schemas["item"],
        user_net=models["user_net"],
        item_net=models["item_net"],
        cross=models["cross"],
        candidates=tuple(str(name) for name in facts["candidates"]),
        item_vectors=sizes["item_vectors"],
        embedding=sizes["embedding"],
        hidden=sizes["hidden"],
        stats=read_stats(bundle.file("stats.parquet")),
        stats_at=float(facts["stats_at"]),
        reference=read_reference(facts.get("reference"), schemas["user"]),
    )
    check_shapes(loaded, sizes["user_vectors"])
    return loaded


def check_shapes(bundle: RankingBundle, user_vectors: int) -> None:
    """The three parts fit each other and the sizes that the facts say: one made-up person with two made-up items."""
    user = bundle.user_net.run(nobody(bundle.user_schema))
    item = bundle.item_net.run(nobody(bundle.item_schema))
    shapes = {
        "user vectors": (user["vectors"], (1, user_vectors, bundle.embedding)),
        "user hidden": (user["hidden"], (1, bundle.hidden)),
        "item vectors": (item["vectors"], (1, bundle.item_vectors, bundle.embedding)),
        "item hidden": (item["hidden"], (1, bundle.hidden)),
    }
    two = np.repeat(item["vectors"][None], 2, axis=1), np.repeat(item["hidden"][None], 2, axis=1)
    inputs = {"user_vectors": user["vectors"], "user_hidden": user["hidden"]}
    inputs |= {"item_vectors": two[0], "item_hidden": two[1]}
    inputs |= {"candidates": np.zeros((1, 2, len(bundle.candidates)), np.float32)}
    shapes["heads"] = (bundle.cross.run(inputs)["heads"], (1, 2, len(HEADS)))
    for name, (values, shape) in shapes.items():
        if values.shape != shape or values.dtype != np.float32:
            raise ValueError(f"{name} are {values.dtype} {values.shape}, needed are float32 {shape}")


def nobody(schema: Schema) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """The encoding of something of which nothing is known: every value missing."""
    numbers = np.asarray([[feature.default for feature in schema.numeric]], np.float32)
    return {"ids": np.zeros((1, schema.width), np.int64), "numbers": numbers}


def read_reference(document: Mapping[str, Any] | None, user: Schema) -> Reference | None:
    """What training saw of the signals that are watched; ValueError where it does not say all of them."""
    if document is None:
        return None
    return arranged(Reference.from_json(document), (SCORE, *(feature.name for feature in user.numeric)))


def read_stats(file: Path) -> dict[str, ItemStats]:
    """Statistics by item id."""
    table = pq.read_table(file, columns=["item_id", "count", "recent", "mean_value"])
    mean = [float("nan") if value is None else value for value in table["mean_value"].to_pylist()]
    columns = table["item_id"].to_pylist(), table["count"].to_pylist(), table["recent"].to_pylist(), mean
    return {
        str(item_id): ItemStats(float(count), float(recent), float(value))
        for item_id, count, recent, value in zip(*columns, strict=True)
    }
