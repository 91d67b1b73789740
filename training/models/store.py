"""A fitted model as a folder: `model.json` says which model with which settings, `arrays.npz` holds its numbers.

Nothing is pickled or unpickled. What the arrays mean is the model's own affair.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.models.catalogue import settings_of
from training.models.contract import Model
from winnow.errors import InvalidArgument

Arrays = dict[str, npt.NDArray[Any]]


def write(folder: Path, model: Model, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Leave a fitted model in `folder`, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"model": model.name, "settings": asdict(model.settings), "seed": model.seed}
    (folder / "model.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]


def read(folder: Path, kind: type[Model], *names: str) -> tuple[Any, int, Arrays]:
    """Settings, seed and arrays of a model of this kind; ValueError when the folder holds something else, or when an
    array that `names` asks for is missing."""
    try:
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if about["model"] != kind.name:
            raise ValueError(f"it holds the model {about['model']!r}")
        settings, seed = settings_of(kind, about["settings"]), int(about["seed"])
        with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, InvalidArgument) as wrong:
        raise ValueError(f"{folder} holds no {kind.name} model: {wrong}") from wrong
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"{folder} holds no {kind.name} model: without {', '.join(missing)}")
    return settings, seed, arrays
