"""A retrieval bundle that is not what it says is refused, with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.retrieval.bundle import load
from tests.bundles import make_items, tiny_retrieval_bundle
from winnow.artifacts import Bundle, open_bundle, seal
from winnow.errors import BundleRefused
from winnow.inference import InProcess


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_retrieval_bundle(tmp_path / "bundle", make_items(50))


def resealed(bundle: Bundle, **facts: Any) -> Bundle:
    """The same folder with its present content and other facts: hashes are right, the content is not."""
    (bundle.path / "manifest.json").unlink()
    return seal(bundle.path, "retrieval", facts={**bundle.facts, **facts}, metrics={}, data={})


def save(name: str, change: Callable[[Any], Any]) -> Callable[[Bundle], Bundle]:
    def spoil(bundle: Bundle) -> Bundle:
        np.save(bundle.file(name), change(np.load(bundle.file(name))))
        return resealed(bundle)

    return spoil


def other_sample(bundle: Bundle) -> Bundle:
    with np.load(bundle.file("samples.npz")) as stored:
        samples = dict(stored)
    samples["user_tower.out.vector"] = samples["user_tower.out.vector"] + np.float32(0.01)
    np.savez(bundle.file("samples.npz"), **samples)
    return resealed(bundle)


def no_samples(bundle: Bundle) -> Bundle:
    np.savez(bundle.file("samples.npz"))
    return resealed(bundle)


def unknown_feature(bundle: Bundle) -> Bundle:
    schemas = json.loads(json.dumps(bundle.facts["schemas"]))
    schemas["item_tower"]["names"].append("item_of_tomorrow")
    return resealed(bundle, schemas=schemas)


def larger_vocabulary(bundle: Bundle) -> Bundle:
    vocabularies = bundle.json("vocabularies.json")
    vocabularies["item_id"]["values"] += [f"more{n}" for n in range(1000)]
    bundle.file("vocabularies.json").write_text(json.dumps(vocabularies))
    return resealed(bundle)


def fewer_numbers(bundle: Bundle) -> Bundle:
    schemas = json.loads(json.dumps(bundle.facts["schemas"]))
    schemas["item_tower"]["names"].remove("item_has_price")
    return resealed(bundle, schemas=schemas)


def broken_model(bundle: Bundle) -> Bundle:
    bundle.file("item_tower.onnx").write_bytes(b"not a model")
    return resealed(bundle)


def no_index(bundle: Bundle) -> Bundle:
    bundle.file("index.faiss").write_bytes(b"not an index")
    return resealed(bundle)


def other_index(bundle: Bundle) -> Bundle:
    index = faiss.IndexFlatIP(128)
    index.add(np.ones((50, 128), np.float32))
    faiss.write_index(index, str(bundle.file("index.faiss")))
    return resealed(bundle)


def distance_index(bundle: Bundle) -> Bundle:
    index = faiss.IndexFlatL2(128)
    index.add(np.load(bundle.file("item_vectors.npy")))
    faiss.write_index(index, str(bundle.file("index.faiss")))
    return resealed(bundle)


def no_recent(bundle: Bundle) -> Bundle:
    table = pq.read_table(bundle.file("stats.parquet")).drop_columns(["recent"])
    pq.write_table(table, bundle.file("stats.parquet"))
    return resealed(bundle)


def double_id(bundle: Bundle) -> Bundle:
    ids = bundle.json("item_ids.json")
    bundle.file("item_ids.json").write_text(json.dumps([*ids[:-1], ids[0]]))
    return resealed(bundle)


def not_finite(values: Any) -> Any:
    values[3, 3] = np.nan
    return values


SPOILED: dict[str, tuple[Callable[[Bundle], Bundle], str]] = {
    "a sample output": (other_sample, "user_tower: sample output vector differs by 0.01"),
    "no samples": (no_samples, "no samples of item_tower"),
    "a feature unknown to this release": (unknown_feature, "item_of_tomorrow"),
    "a vocabulary larger than the model's table": (larger_vocabulary, "item_tower does not take"),
    "a schema with other numbers": (fewer_numbers, "item_tower does not take"),
    "a model that is none": (broken_model, "item_tower.onnx cannot be loaded"),
    "an index that is none": (no_index, "index.faiss cannot be read"),
    "an index over other vectors": (other_index, "other vectors"),
    "an index by distance": (distance_index, "index.faiss"),
    "statistics without a column": (no_recent, "recent"),
    "an id twice": (double_id, "distinct ids"),
    "too few digests": (save("item_digests.npy", lambda a: a[:-1]), "item_digests.npy is uint64 (49,)"),
    "vectors of another type": (save("item_vectors.npy", lambda a: a.astype(np.float64)), "float64"),
    "vectors that are not finite": (save("item_vectors.npy", not_finite), "not finite"),
    "neighbours outside the table": (save("follows_rows.npy", lambda a: a + 50), "follows_rows.npy"),
    "neighbours without scores": (save("together_scores.npy", lambda a: a[:, 1:]), "together_scores.npy"),
    "another history": (lambda bundle: resealed(bundle, history=20), "history of 20"),
    "no value scale": (lambda bundle: resealed(bundle, value_std=0), "value_std"),
    "a table read by more acts than are kept": (
        lambda bundle: resealed(bundle, together={"acts": 51, "decay": 1.0}),
        "facts.together",
    ),
    "a table read with a decay of nothing": (
        lambda bundle: resealed(bundle, together={"acts": 5, "decay": 0}),
        "facts.together",
    ),
    "a table read without a decay": (lambda bundle: resealed(bundle, together={"acts": 5}), "KeyError"),
    "more items than rows": (lambda bundle: resealed(bundle, items=51), "51 distinct ids"),
    "facts of a wrong type": (lambda bundle: resealed(bundle, dim=None), "TypeError"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_bundle_is_refused_with_the_reason_for(what: str, bundle: Bundle) -> None:
    spoil, reason = SPOILED[what]
    spoiled = spoil(bundle)
    with pytest.raises(BundleRefused) as refused:
        load(spoiled, InProcess())
    assert reason in refused.value.detail


def test_a_changed_byte_is_refused_when_the_bundle_is_opened(bundle: Bundle) -> None:
    content = bytearray(bundle.file("item_vectors.npy").read_bytes())
    content[-1] ^= 1
    bundle.file("item_vectors.npy").write_bytes(content)
    with pytest.raises(BundleRefused, match=r"item_vectors\.npy does not have the hash"):
        open_bundle(bundle.path, "retrieval")


def test_a_pickle_is_not_read(bundle: Bundle) -> None:
    np.save(bundle.file("item_digests.npy"), np.asarray([{}] * 50, dtype=object), allow_pickle=True)
    with pytest.raises(BundleRefused, match="allow_pickle"):
        load(resealed(bundle), InProcess())


def test_a_whole_bundle_is_loaded(bundle: Bundle) -> None:
    loaded = load(resealed(bundle), InProcess())
    assert len(loaded.item_ids) == 50
    assert loaded.index.kind == "flat"
    table = pa.table(pq.read_table(bundle.file("stats.parquet")))
    np.testing.assert_array_equal(loaded.recent, table["recent"].to_numpy())
