"""Items whose words match a free-text query: SQLite's full-text index in memory, scored by BM25."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence

import numpy as np

from services.retrieval.ask import Ask, Found, scored
from services.retrieval.model import Model
from winnow.catalogue import Catalogue, Rows
from winnow.errors import Unavailable
from winnow.features import words
from winnow.types import Floats, Item

MAX_WORDS = 16  # of a query
MAX_MATCHES = 3_000  # items scored per query, the newest rows first: about 8 ms on one core
COLUMNS = ("title", "categories", "brand", "attributes", "description")
WEIGHTS = (10.0, 4.0, 4.0, 2.0, 1.0)


class Text:
    """One connection; a lock puts writer and readers in line."""

    name = "text"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        tokens = "porter unicode61 remove_diacritics 2"
        self._base.execute(f"CREATE VIRTUAL TABLE words USING fts5({', '.join(COLUMNS)}, tokenize='{tokens}')")

    def absorb(self, rows: Rows) -> None:
        """Index these rows of the catalogue, anew where they are indexed already."""
        values = [(row, *texts(self._catalogue.item(row))) for row in rows.tolist()]
        places = ", ".join("?" * (1 + len(COLUMNS)))
        with self._lock:
            self._base.execute("BEGIN")
            self._base.executemany("DELETE FROM words WHERE rowid = ?", [(row,) for row in rows.tolist()])
            self._base.executemany(f"INSERT INTO words (rowid, {', '.join(COLUMNS)}) VALUES ({places})", values)  # noqa: S608
            self._base.execute("COMMIT")

    def propose(self, model: Model, asks: Sequence[Ask]) -> list[Found]:
        return [self._propose(ask) if ask.query else Found() for ask in asks]

    def _propose(self, ask: Ask) -> Found:
        """Items with all words; when they are too few, with any of them."""
        wanted = [f'"{word}"' for word in words(ask.query)[:MAX_WORDS]]
        if not wanted:
            return Found()
        rows, scores = self._match(" AND ".join(wanted))
        if len(wanted) > 1 and np.count_nonzero(ask.keep(rows)) < ask.n:
            rows, scores = self._match(" OR ".join(wanted))
        return scored(ask, rows, scores)

    def _match(self, expression: str) -> tuple[Rows, Floats]:
        """Rows and scores (higher is better) of at most `MAX_MATCHES` items; many more make no better ten."""
        query = (
            f"SELECT rowid, -bm25(words, {', '.join(map(str, WEIGHTS))}) FROM words "  # noqa: S608
            "WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?"
        )
        try:
            with self._lock:
                found = self._base.execute(query, (expression, MAX_MATCHES)).fetchall()
        except sqlite3.Error as broken:
            raise Unavailable(f"text search failed: {broken}") from broken
        pairs = np.asarray(found, np.float64).reshape(-1, 2)[::-1]
        return pairs[:, 0].astype(np.int64), np.maximum(pairs[:, 1], 1e-6).astype(np.float32)


def texts(item: Item) -> tuple[str, ...]:
    """An item's words per column of the index."""
    return (item.title, " ".join(item.categories), item.brand, " ".join(item.attributes.values()), item.description)
