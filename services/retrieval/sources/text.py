"""Items whose words match a free-text query: SQLite's full-text index in memory, scored by BM25.

BM25 does not know that a query is a whole title: an item that repeats its words may score more. An item whose title has
the query's words and no other is found by a table of its own, however common the words are, and scores twice as much as
the best of the others.
"""

from __future__ import annotations

import sqlite3
import threading
import unicodedata
from collections.abc import Sequence

import numpy as np
import xxhash

from services.retrieval.ask import Ask, Found, scored
from services.retrieval.model import Model
from winnow.catalogue import Catalogue, Rows
from winnow.errors import Unavailable
from winnow.features import words
from winnow.types import TEXT, Floats, Item

MAX_WORDS = 16  # of a query
MAX_MATCHES = 3_000  # items scored per query, the newest rows first: about 8 ms on one core
TITLED = 2.0  # times the best other score: what a whole title is worth
COLUMNS = ("title", "categories", "brand", "attributes", "description")
WEIGHTS = (10.0, 4.0, 4.0, 2.0, 1.0)


class Text:
    """One connection; a lock puts writer and readers in line."""

    name = TEXT

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._base = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        tokens = "porter unicode61 remove_diacritics 2"
        self._base.execute(f"CREATE VIRTUAL TABLE words USING fts5({', '.join(COLUMNS)}, tokenize='{tokens}')")
        self._base.execute("CREATE TABLE titles (row INTEGER PRIMARY KEY, title INTEGER NOT NULL)")
        self._base.execute("CREATE INDEX by_title ON titles (title, row)")

    def absorb(self, rows: Rows) -> None:
        """Index these rows of the catalogue, anew where they are indexed already."""
        items = [(row, self._catalogue.item(row)) for row in rows.tolist()]
        values = [(row, *texts(item)) for row, item in items]
        titles = [(row, title_key(item.title)) for row, item in items]
        places = ", ".join("?" * (1 + len(COLUMNS)))
        with self._lock:
            self._base.execute("BEGIN")
            self._base.executemany("DELETE FROM words WHERE rowid = ?", [(row,) for row in rows.tolist()])
            self._base.executemany(f"INSERT INTO words (rowid, {', '.join(COLUMNS)}) VALUES ({places})", values)  # noqa: S608
            self._base.executemany("INSERT OR REPLACE INTO titles VALUES (?, ?)", titles)
            self._base.execute("COMMIT")

    def propose(self, model: Model, asks: Sequence[Ask]) -> list[Found]:
        return [self._propose(ask) if ask.query else Found() for ask in asks]

    def _propose(self, ask: Ask) -> Found:
        """Items with all words; when they are too few, with any of them. Those called so come first."""
        wanted = [f'"{word}"' for word in words(ask.query)[:MAX_WORDS]]
        if not wanted:
            return Found()
        rows, scores = self._match(" AND ".join(wanted))
        if len(wanted) > 1 and np.count_nonzero(ask.keep(rows)) < ask.n:
            rows, scores = self._match(" OR ".join(wanted))
        return scored(ask, *led(self._titled(ask.query), rows, scores))

    def _titled(self, query: str) -> Rows:
        """Rising rows of the items with this title, the newest `MAX_MATCHES` of them."""
        asked = "SELECT row FROM titles WHERE title = ? ORDER BY row DESC LIMIT ?"
        found = self._fetch(asked, title_key(query), MAX_MATCHES)
        return np.asarray([row for (row,) in found[::-1]], np.int64)

    def _match(self, expression: str) -> tuple[Rows, Floats]:
        """Rows and scores (higher is better) of at most `MAX_MATCHES` items; many more make no better ten."""
        query = (
            f"SELECT rowid, -bm25(words, {', '.join(map(str, WEIGHTS))}) FROM words "  # noqa: S608
            "WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?"
        )
        found = self._fetch(query, expression, MAX_MATCHES)
        pairs = np.asarray(found, np.float64).reshape(-1, 2)[::-1]
        return pairs[:, 0].astype(np.int64), np.maximum(pairs[:, 1], 1e-6).astype(np.float32)

    def _fetch(self, query: str, *values: str | int) -> list[tuple[float, ...]]:
        try:
            with self._lock:
                return self._base.execute(query, values).fetchall()
        except sqlite3.Error as broken:
            raise Unavailable(f"text search failed: {broken}") from broken


def led(titled: Rows, rows: Rows, scores: Floats) -> tuple[Rows, Floats]:
    """Rising rows and their scores, the titled ones among them with more than any other."""
    if not len(titled):
        return rows, scores
    every = np.union1d(rows, titled)
    together = np.zeros(len(every), np.float32)
    together[np.searchsorted(every, rows)] = scores
    together[np.searchsorted(every, titled)] = TITLED * scores.max(initial=1e-6)
    return every, together


def title_key(text: str) -> int:
    """64 bits of a text's words, whatever their case, accents and what stands between them."""
    if not text.isascii():
        text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return int.from_bytes(xxhash.xxh3_64_digest(" ".join(words(text)).encode()), signed=True)


def texts(item: Item) -> tuple[str, ...]:
    """An item's words per column of the index."""
    return (item.title, " ".join(item.categories), item.brand, " ".join(item.attributes.values()), item.description)
