"""A ranking bundle that is not what it says is refused, with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from services.ranking.bundle import load
from tests.bundles import make_items, tiny_ranking_bundle
from winnow.artifacts import Bundle, open_bundle, seal
from winnow.errors import BundleRefused
from winnow.inference import InProcess


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_ranking_bundle(tmp_path / "bundle", make_items(50))


def resealed(bundle: Bundle, **facts: Any) -> Bundle:
    (bundle.path / "manifest.json").unlink()
    return seal(bundle.path, "ranking", facts={**bundle.facts, **facts}, metrics={}, data={})


def other_sample(bundle: Bundle) -> Bundle:
    with np.load(bundle.file("samples.npz")) as stored:
        samples = dict(stored)
    samples["cross.out.heads"] = samples["cross.out.heads"] * np.float32(1.01)
    np.savez(bundle.file("samples.npz"), **samples)
    return resealed(bundle)


def without(model: str) -> Callable[[Bundle], Bundle]:
    def spoil(bundle: Bundle) -> Bundle:
        with np.load(bundle.file("samples.npz")) as stored:
            samples = {key: value for key, value in stored.items() if not key.startswith(f"{model}.out")}
        np.savez(bundle.file("samples.npz"), **samples)
        return resealed(bundle)

    return spoil


def unknown_feature(bundle: Bundle) -> Bundle:
    schemas = json.loads(json.dumps(bundle.facts["schemas"]))
    schemas["user"]["names"].append("user_of_tomorrow")
    return resealed(bundle, schemas=schemas)


def swapped_models(bundle: Bundle) -> Bundle:
    content = bundle.file("user_net.onnx").read_bytes()
    bundle.file("item_net.onnx").write_bytes(content)
    return resealed(bundle)


def larger_vocabulary(bundle: Bundle) -> Bundle:
    vocabularies = bundle.json("vocabularies.json")
    vocabularies["user_id"]["values"] += [f"more{n}" for n in range(1000)]
    bundle.file("vocabularies.json").write_text(json.dumps(vocabularies))
    return resealed(bundle)


def no_mean(bundle: Bundle) -> Bundle:
    table = pq.read_table(bundle.file("stats.parquet")).drop_columns(["mean_value"])
    pq.write_table(table, bundle.file("stats.parquet"))
    return resealed(bundle)


def sizes(**changed: int) -> Callable[[Bundle], Bundle]:
    return lambda bundle: resealed(bundle, sizes={**bundle.facts["sizes"], **changed})


SPOILED: dict[str, tuple[Callable[[Bundle], Bundle], str]] = {
    "a sample output": (other_sample, "cross: sample output heads differs"),
    "no samples of a part": (without("cross"), "no samples of cross"),
    "a feature unknown to this release": (unknown_feature, "user_of_tomorrow"),
    "one part in another's place": (swapped_models, "item_net"),
    "a vocabulary larger than the model's table": (larger_vocabulary, "user_net does not take"),
    "statistics without a column": (no_mean, "mean_value"),
    "other sizes of the person's vectors": (sizes(user_vectors=3), "user vectors"),
    "other sizes of the item's state": (sizes(hidden=100), "hidden"),
    "other candidate columns": (lambda bundle: resealed(bundle, candidates=["log_rank"]), "candidates"),
    "a reference without a signal": (lambda bundle: resealed(bundle, reference={}), "ValueError"),
    "no moment of the statistics": (lambda bundle: resealed(bundle, stats_at=None), "TypeError"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_bundle_is_refused_with_the_reason_for(what: str, bundle: Bundle) -> None:
    spoil, reason = SPOILED[what]
    spoiled = spoil(bundle)
    with pytest.raises(BundleRefused) as refused:
        load(spoiled, InProcess())
    assert reason in refused.value.detail


def test_a_changed_byte_is_refused_when_the_bundle_is_opened(bundle: Bundle) -> None:
    content = bytearray(bundle.file("cross.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    bundle.file("cross.onnx").write_bytes(content)
    with pytest.raises(BundleRefused, match=r"cross\.onnx does not have the hash"):
        open_bundle(bundle.path, "ranking")


def test_a_bundle_of_before_references_is_loaded_without_one(bundle: Bundle) -> None:
    assert load(resealed(bundle, reference=None), InProcess()).reference is None


def test_a_whole_bundle_is_loaded(bundle: Bundle) -> None:
    loaded = load(resealed(bundle), InProcess())
    assert len(loaded.stats) == 50
    assert loaded.candidates[0] == "log_rank"
