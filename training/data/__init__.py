"""Data sets become canonical events, items and users (`winnow.canonical`), one adapter each."""

from __future__ import annotations

from training.data import generated, goodbooks, ml_1m, ml_100k, online_retail
from training.data.source import Source
from winnow.errors import NotFound

SOURCES = {
    "ml-100k": ml_100k.source,
    "ml-1m": ml_1m.source,
    "goodbooks": goodbooks.source,
    "online-retail": online_retail.source,
}


def open_source(source: str) -> Source:
    """A data set by its name; NotFound says how to get one that is absent."""
    if source in SOURCES:
        return SOURCES[source]()
    if source == "generated" or source.startswith("generated:"):
        return generated.source(source.partition(":")[2])
    raise NotFound(f"no data set {source}: name one of {', '.join(SOURCES)}", field="source")
