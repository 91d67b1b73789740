"""The bundle: what a training run leaves and serving loads.

A bundle is a folder of files and `manifest.json`, which lists every file with its SHA-256. Its `id` is the hash of
the manifest, so the same content has the same id wherever it was trained. Nothing in a bundle is ever unpickled:
files are JSON, Parquet, `.npy`, ONNX and FAISS indexes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from winnow.encoding import Vocabulary
from winnow.errors import BundleRefused

MANIFEST = "manifest.json"
FORMAT = 1  # raised when an older release could not read a newer bundle
MAX_MANIFEST_BYTES = 16 * 2**20
REFRESH_OF = "refresh_of"  # among a bundle's data, where it is a refresh: the trained bundle that its towers are of
TOGETHER = "together"  # among a retrieval bundle's facts, where its table of what goes together is a model's own

Kind = Literal["retrieval", "ranking", "explanation"]


@dataclass(frozen=True)
class Bundle:
    """An opened, hash-checked bundle. `facts` is what its kind needs to know (schemas, sizes, source names …)."""

    path: Path
    kind: Kind
    id: str
    facts: Mapping[str, Any]
    metrics: Mapping[str, float]
    data: Mapping[str, Any]

    def file(self, name: str) -> Path:
        return self.path / name

    def json(self, name: str) -> Any:
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def vocabularies(self) -> dict[str, Vocabulary]:
        """The bundle's `vocabularies.json`."""
        return {
            name: Vocabulary(name, entry["values"], entry["buckets"])
            for name, entry in self.json("vocabularies.json").items()
        }


def write_vocabularies(path: Path, vocabularies: Mapping[str, Vocabulary]) -> None:
    document = {name: vocabulary.to_json() for name, vocabulary in sorted(vocabularies.items())}
    (path / "vocabularies.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def seal(
    path: Path, kind: Kind, *, facts: Mapping[str, Any], metrics: Mapping[str, float], data: Mapping[str, Any]
) -> Bundle:
    """Write the manifest over the files already in `path` (subfolders included) and open the result."""
    files = {
        str(file.relative_to(path)): {"sha256": sha256(file), "bytes": file.stat().st_size}
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "files": files,
        "facts": dict(facts),
        "metrics": dict(metrics),
        "data": dict(data),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
    (path / MANIFEST).write_text(text, encoding="utf-8")
    return open_bundle(path, kind)


def open_bundle(path: Path, kind: Kind) -> Bundle:
    """Open and check a bundle; BundleRefused says what is wrong with it."""
    try:
        text = (path / MANIFEST).read_bytes()
    except OSError as gone:
        raise BundleRefused(f"{path.name}: no {MANIFEST} ({gone.strerror})") from gone
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleRefused(f"{path.name}: {MANIFEST} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(text)
        bundle_format, found_kind, files = manifest["format"], manifest["kind"], dict(manifest["files"])
        bundle = Bundle(
            path,
            found_kind,
            hashlib.sha256(text).hexdigest()[:16],
            dict(manifest["facts"]),
            dict(manifest["metrics"]),
            dict(manifest["data"]),
        )
    except (ValueError, KeyError, TypeError) as wrong:
        raise BundleRefused(f"{path.name}: {MANIFEST} cannot be read: {wrong}") from wrong
    if bundle_format != FORMAT:
        raise BundleRefused(f"{path.name}: bundle format {bundle_format}, this release reads {FORMAT}")
    if found_kind != kind:
        raise BundleRefused(f"{path.name}: a {found_kind} bundle where a {kind} bundle is needed")
    for name, entry in files.items():
        check_file(path, name, entry)
    return bundle


def file_hashes(bundle: Bundle) -> dict[str, str]:
    """SHA-256 of each file by name, as the manifest says."""
    return {str(name): str(entry["sha256"]) for name, entry in bundle.json(MANIFEST)["files"].items()}


def check_file(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """The file is inside the bundle and has the size and hash that the manifest says."""
    file = (path / name).resolve()
    if not file.is_relative_to(path.resolve()):
        raise BundleRefused(f"{path.name}: {name} lies outside the bundle")
    if not file.is_file():
        raise BundleRefused(f"{path.name}: {name} is missing")
    if file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
        raise BundleRefused(f"{path.name}: {name} does not have the hash its manifest says")


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
