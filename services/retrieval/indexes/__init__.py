"""The vector index: the nearest rows to a vector by inner product, filters inside the search. A port, a file per family.

Every implementation answers with as many rows as were asked for while rows match, whatever the filter: where an
approximate search comes back short, or few rows match, the matching rows are compared one by one. An index knows rows of
the catalogue and masks over them; what a filter says, and what an item is, it does not know (docs/adr/0018).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from winnow.catalogue import Mask, Rows
from winnow.types import Floats


class VectorIndex(Protocol):
    """Vectors by catalogue row. Searches may run in many threads beside one thread that changes it; every change is
    seen by the next search."""

    kind: str

    def bind(self, slots: Rows, rows: Rows) -> None:
        """Say which rows the index's first vectors (a bundle's, in its order) belong to."""
        ...

    def put(self, rows: Rows, vectors: Floats) -> None:
        """Add vectors (n, d) in place; a row that has one already gets the new one."""
        ...

    def drop(self, rows: Rows) -> None:
        """Forget these rows' vectors; rows that have none are no error."""
        ...

    def search(self, vectors: Floats, k: int, mask: Mask | None, without: Sequence[Rows]) -> tuple[Floats, Rows]:
        """(b, d) → scores (b, k) and rows (b, k), best first: rows where `mask` (None: any) holds and that are not in
        `without[i]` (distinct rows). Score -inf and row -1 where fewer exist."""
        ...

    def save(self, folder: Path) -> None:
        """A snapshot: the new folder is there as a whole or not at all. `services.retrieval.indexes.stored.restored`
        makes an index of it that answers the same."""
        ...
