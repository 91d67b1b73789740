"""Which event ids were taken already, compactly: 16 bytes and the id itself per event on disk, a set for new ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

CHUNK = 50_000  # ids hashed at a time


class KnownIds:
    """A set of ids that only grows. Exact: a hash finds the place, the id itself decides."""

    def __init__(self, ids: pa.ChunkedArray) -> None:
        self._ids = ids.cast(pa.large_string()).combine_chunks()
        hashes = hashes_of(self._ids)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._new: set[str] = set()

    def __len__(self) -> int:
        return len(self._ids) + len(self._new)

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._new or (isinstance(event_id, str) and self._on_disk(event_id))

    def update(self, ids: Iterable[str]) -> None:
        self._new.update(ids)

    def _on_disk(self, event_id: str) -> bool:
        wanted = np.uint64(xxhash.xxh3_64_intdigest(event_id.encode()))
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            if self._ids[int(self._order[place])].as_py() == event_id:
                return True
            place += 1
        return False


def hashes_of(ids: pa.LargeStringArray) -> npt.NDArray[np.uint64]:
    """(n,) xxh3 of each id."""
    hashes = np.empty(len(ids), np.uint64)
    for start in range(0, len(ids), CHUNK):
        part = ids.slice(start, CHUNK).to_pylist()
        hashes[start : start + CHUNK] = [xxhash.xxh3_64_intdigest(event_id.encode()) for event_id in part]
    return hashes
