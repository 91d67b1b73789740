"""Which slot of a vector index holds which catalogue row, and which slots a search may return.

An index never moves or frees a slot: a row that gets a new vector gets a new slot, and its old one is dead until the
next bundle. So row numbers stay the catalogue's, whatever order the bundle's index was built in.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from winnow.catalogue import Mask, Rows

Packed = npt.NDArray[np.uint8]  # one bit per slot, little-endian: what FAISS's bitmap selector reads
NO_ROWS = np.empty(0, np.int64)
FEW = 32  # a mask that lets less than one row in so many through is read row by row, not slot by slot


@dataclass(frozen=True, eq=False)
class Selection:
    """The slots that one search may return: a bit per slot, and how many are set."""

    bits: Packed
    count: int

    @cached_property
    def slots(self) -> Rows:
        """(count,) the selected slots, rising."""
        return np.flatnonzero(self.open)

    def some(self, step: int) -> Rows:
        """The selected slots of one byte of slots in `step`, rising: as good as all to count by."""
        step = max(step, 1)
        places = np.flatnonzero(np.unpackbits(self.bits[::step], bitorder="little").view(np.bool_))
        return (places >> 3) * 8 * step + (places & 7) if step > 1 else places

    @property
    def open(self) -> Mask:
        """(at least as many as there are slots,) bool."""
        return np.unpackbits(self.bits, bitorder="little").view(np.bool_)


class Slots:
    """`row_of[slot]` and `of_row[row]`, -1 where there is none."""

    def __init__(self, slots: int = 0) -> None:
        self.row_of = np.full(slots, -1, np.int64)
        self.of_row = np.empty(0, np.int64)
        self._version = 0
        self._cached: tuple[Mask | None, int, Selection] | None = None

    def bind(self, slots: Rows, rows: Rows) -> None:
        """Give these slots these rows; slots that held the rows before are dead."""
        if not len(rows):
            return
        self.of_row = grown(self.of_row, int(rows.max()) + 1)
        self.row_of = grown(self.row_of, int(slots.max()) + 1)
        before = self.of_row[rows]
        self.row_of[before[before >= 0]] = -1
        self.row_of[slots] = rows
        self.of_row[rows] = slots
        self._version += 1

    def add(self, first: int, rows: Rows) -> None:
        """The slots from `first` on were appended for these rows."""
        self.bind(np.arange(first, first + len(rows)), rows)

    def drop(self, rows: Rows) -> None:
        """These rows have no slot any more; rows that had none are left as they are."""
        slots = self.held(rows)
        self.of_row[self.row_of[slots]] = -1
        self.row_of[slots] = -1
        self._version += 1

    def held(self, rows: Rows) -> Rows:
        """The slots of those of these rows that have one."""
        slots = self.of_row[rows[rows < len(self.of_row)]]
        return slots[slots >= 0]

    def selection(self, mask: Mask | None, without: Rows) -> Selection:
        """The slots that hold a row where `mask` (row-wise; None: any) holds, not in `without` (distinct). That of the
        last mask is kept: most requests share one."""
        base = self._base(mask)
        slots = self.held(without)
        if not len(slots):
            return base
        bits = base.bits.copy()
        place, bit = slots >> 3, np.left_shift(1, slots & 7).astype(np.uint8)
        count = base.count - int(np.count_nonzero(bits[place] & bit))
        np.bitwise_and.at(bits, place, ~bit)
        return Selection(bits, count)

    def _base(self, mask: Mask | None) -> Selection:
        cached = self._cached
        if cached is not None and cached[0] is mask and cached[1] == self._version:
            return cached[2]
        version = self._version
        if mask is None:
            open_slots = self.row_of >= 0
        elif np.count_nonzero(mask) * FEW < len(mask):
            open_slots = np.zeros(len(self.row_of), np.bool_)
            open_slots[self.held(np.flatnonzero(mask))] = True
        else:
            padded = np.zeros(max(len(mask), len(self.of_row)) + 1, np.bool_)  # the last place stands for row -1
            padded[: len(mask)] = mask
            open_slots = padded[self.row_of]
        base = Selection(np.packbits(open_slots, bitorder="little"), int(np.count_nonzero(open_slots)))
        self._cached = (mask, version, base)
        return base


class ReadersWriter:
    """Many readers or one writer; a waiting writer goes before new readers."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writers = 0  # waiting or writing

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._writers)
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """For one writing thread at a time (the upkeep's)."""
        with self._condition:
            self._writers += 1
            self._condition.wait_for(lambda: not self._readers)
        try:
            yield
        finally:
            with self._condition:
                self._writers -= 1
                self._condition.notify_all()


def grown(column: Rows, size: int) -> Rows:
    """The column with at least `size` entries, new ones -1."""
    if size <= len(column):
        return column
    return np.concatenate([column, np.full(size - len(column), -1, np.int64)])


def alike(selections: Sequence[Selection]) -> list[list[int]]:
    """Places of selections grouped, so that those that are one and the same share one search."""
    groups: dict[int, list[int]] = {}
    for place, selection in enumerate(selections):
        groups.setdefault(id(selection), []).append(place)
    return list(groups.values())
