"""A file of a model's settings, as `winnow optimize` writes it and `winnow train MODEL --settings` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from winnow.errors import InvalidArgument, NotFound

LARGEST_BYTES = 2**20

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="A file with the model's settings, as winnow optimize writes one.")
]


def read_settings(file: Path | None, model: str) -> dict[str, Any]:
    """The settings in a file, which must be of this model; none without a file."""
    if file is None:
        return {}
    if not file.is_file():
        raise NotFound(f"no file {file}; winnow optimize {model} writes one", field="settings")
    if file.stat().st_size > LARGEST_BYTES:
        raise InvalidArgument(f"{file} has more than {LARGEST_BYTES} bytes", field="settings")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        of, settings = str(document["model"]), dict(document["settings"])
    except (ValueError, KeyError, TypeError) as wrong:
        raise InvalidArgument(f"{file} holds no settings of a model", field="settings") from wrong
    if of != model:
        raise InvalidArgument(f"{file} holds settings of {of}, not of {model}", field="settings")
    return settings
