"""Data sets become canonical events, items and users (`winnow.canonical`), one adapter each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.data import folder, generated, goodbooks, ml_1m, ml_100k, online_retail
from training.data.source import Source
from winnow.errors import NotFound

SOURCES = {
    "ml-100k": ml_100k.source,
    "ml-1m": ml_1m.source,
    "goodbooks": goodbooks.source,
    "online-retail": online_retail.source,
}


def open_source(source: str, columns: Sequence[str] = ()) -> Source:
    """A data set by its name, or the folder at a path; `columns` add to a folder's column map.

    NotFound says how to get a set that is absent.
    """
    if source in SOURCES:
        return SOURCES[source]()
    if source == "generated" or source.startswith("generated:"):
        return generated.source(source.partition(":")[2])
    if Path(source).is_dir():
        return folder.source(Path(source), columns)
    known = ", ".join([*SOURCES, "generated:ITEMS"])
    raise NotFound(f"no data set {source}: name one of {known}, or a folder that has events.*", field="source")
