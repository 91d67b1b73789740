"""Rows of the catalogue by the fingerprint of their id: what turns a person's long seen tail into rows to leave out."""

from __future__ import annotations

import numpy as np

from winnow.catalogue import Catalogue, Rows
from winnow.seen import fingerprint
from winnow.types import Bits


class Fingerprints:
    """Every row of a catalogue; ids that share a fingerprint are all found by it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._size = 0
        self._row: dict[int, int] = {}
        self._twins: dict[int, list[int]] = {}

    def absorb(self, rows: Rows) -> None:
        """Add rows that are new; an item keeps its id."""
        for row in range(self._size, len(self._catalogue)):
            mark = fingerprint(self._catalogue.item(row).item_id)
            if mark in self._row:
                self._twins.setdefault(mark, []).append(row)
            else:
                self._row[mark] = row
            self._size = row + 1

    def rows(self, marks: Bits) -> Rows:
        """Rows whose id has one of these fingerprints, in no particular order."""
        wanted = marks.tolist()
        rows = [row for row in map(self._row.get, wanted) if row is not None]
        if self._twins:
            rows += [row for mark in wanted for row in self._twins.get(mark, ())]
        return np.asarray(rows, np.int64)
