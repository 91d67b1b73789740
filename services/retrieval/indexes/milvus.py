"""Vectors in Milvus: a distributed index behind the same port, for catalogues whose index no single process should hold.

Filters stay the catalogue's (docs/adr/0018): Milvus is told the rows that match, or those that do not, whichever are
fewer, and evaluates that inside its search. Where both are many, more is asked for than is wanted and what does not
match is left out; where that leaves too little, the matching rows' vectors are fetched and compared here. Rows are one
process's numbers, so a collection belongs to one index and goes with it.
"""

from __future__ import annotations

import logging
import math
import uuid
import weakref
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from services.retrieval.indexes.device import matching
from services.retrieval.indexes.flat import best
from services.retrieval.indexes.slots import NO_ROWS, ReadersWriter, Slots
from services.retrieval.indexes.snapshots import snapshot
from winnow.catalogue import Mask, Rows
from winnow.errors import Unavailable
from winnow.pipeline import remaining_s
from winnow.types import Floats

LISTED = 10_000  # rows in one expression: some 80 kB of text
WIDEST = 16_384  # the most that Milvus returns for one vector
SPARE = 1.3  # asked for, times what should be enough
WRITTEN = 2_000  # vectors in one call
GONE_S = 2.0  # that a collection nobody needs any more is worth waiting for, at the end of a process, too
TIMEOUT_S = 30.0  # of one call, where nobody's deadline is nearer

P = ParamSpec("P")
T = TypeVar("T")


def translated(call: Callable[P, T]) -> Callable[P, T]:
    """Milvus's errors as the platform's."""

    @wraps(call)
    def translating(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except MilvusException as broken:
            raise Unavailable(f"Milvus: {str(broken.message)[:300]}") from broken

    return translating


@translated
def connected(uri: str, token: str = "") -> MilvusClient:
    """A client of `http://host:19530`, or of the embedded build over a file `….db`; Unavailable where nobody answers."""
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs, with a page of trace, all that it raises, too
    return MilvusClient(uri=uri, token=token, timeout=TIMEOUT_S)


def in_milvus(uri: str, token: str = "") -> Callable[[Path, Floats, Mask | None], MilvusIndex]:
    """Puts a bundle's vectors into this Milvus, whatever its own index is. Connects when the first bundle comes."""

    @cache
    def client() -> MilvusClient:
        return connected(uri, token)

    return lambda _file, vectors, _kept: MilvusIndex(client(), vectors)


class MilvusIndex:
    """`vectors` (N, d) are a bundle's, written as rows are bound to them. `graph` are Milvus's own index parameters."""

    kind = "milvus"

    @translated
    def __init__(self, client: MilvusClient, vectors: Floats, graph: str = "HNSW") -> None:
        self._client = client
        self._vectors = vectors
        self._held = Slots()  # a slot is a row here: which rows there are
        self._lock = ReadersWriter()
        self._name = f"winnow_{uuid.uuid4().hex}"
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        search = client.prepare_index_params()
        search.add_index("vector", index_type=graph, metric_type="IP", params={"M": 32, "efConstruction": 80})
        client.create_collection(self._name, schema=schema, index_params=search, consistency_level="Strong")
        weakref.finalize(self, gone, client, self._name)

    def bind(self, slots: Rows, rows: Rows) -> None:
        self.put(rows, self._vectors[slots])

    @translated
    def put(self, rows: Rows, vectors: Floats) -> None:
        with self._lock.writing():
            for first in range(0, len(rows), WRITTEN):
                some = slice(first, first + WRITTEN)
                pairs = zip(rows[some].tolist(), np.asarray(vectors[some], np.float32), strict=True)
                self._client.upsert(self._name, [{"row": row, "vector": vector} for row, vector in pairs])
            self._held.bind(rows, rows)

    @translated
    def drop(self, rows: Rows) -> None:
        with self._lock.writing():
            for first in range(0, len(rows), LISTED):
                self._client.delete(self._name, ids=rows[first : first + LISTED].tolist())
            self._held.drop(rows)

    @translated
    def search(self, vectors: Floats, k: int, mask: Mask | None, without: Sequence[Rows]) -> tuple[Floats, Rows]:
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        with self._lock.reading():
            every = self._held.selection(None, NO_ROWS)
            for n, vector in enumerate(vectors):
                chosen = self._held.selection(mask, without[n])
                wanted = min(k, chosen.count)
                if wanted:
                    near = self._nearest(vector, wanted, chosen.open, chosen.count, every.open, every.count)
                    scores[n, :wanted], rows[n, :wanted] = near
        return scores, rows

    @translated
    def save(self, folder: Path) -> None:
        with self._lock.reading(), snapshot(folder) as part:
            rows = np.flatnonzero(self._held.row_of >= 0)
            np.save(part / "vectors.npy", self._stored(rows))
            np.save(part / "rows.npy", rows)

    def _nearest(
        self, vector: Floats, k: int, chosen: Mask, count: int, every: Mask, total: int
    ) -> tuple[Floats, Rows]:
        """(k,) scores and chosen rows; k ≤ count, so that every place is filled."""
        if total - count <= LISTED:
            found = self._asked(vector, k, f"row not in {listed(every & ~chosen)}" if count < total else "")
        elif count <= LISTED:
            found = self._asked(vector, k, f"row in {listed(chosen)}")
        else:
            found = self._widely(vector, k, chosen, math.ceil(SPARE * k * total / count) + 32)
        return found if len(found[1]) == k else self._compared(vector, k, np.flatnonzero(chosen))

    def _widely(self, vector: Floats, k: int, chosen: Mask, wide: int) -> tuple[Floats, Rows]:
        if wide > WIDEST:
            return np.empty(0, np.float32), NO_ROWS
        scores, rows = self._asked(vector, wide, "")
        scores, rows = matching(scores[None], rows[None], chosen, k)
        return scores[rows >= 0], rows[rows >= 0]

    def _compared(self, vector: Floats, k: int, rows: Rows) -> tuple[Floats, Rows]:
        """The matching rows' own vectors compared here: slow, and complete where a walk through a graph was not."""
        return best(self._stored(rows) @ vector, rows, k)

    def _asked(self, vector: Floats, k: int, expression: str) -> tuple[Floats, Rows]:
        """At most k scores and rows, best first."""
        [hits] = self._client.search(
            self._name,
            data=[vector.tolist()],
            filter=expression,
            limit=min(k, WIDEST),
            anns_field="vector",
            search_params={"metric_type": "IP", "params": {"ef": max(64, k)}},
            output_fields=["row"],
            timeout=max(remaining_s(TIMEOUT_S), 1e-3),
        )
        scores = np.fromiter((hit["distance"] for hit in hits), np.float32, len(hits))
        return scores, np.fromiter((hit["row"] for hit in hits), np.int64, len(hits))

    def _stored(self, rows: Rows) -> Floats:
        """(n, d) the vectors that Milvus holds for these rows."""
        found = np.empty((len(rows), self._vectors.shape[1]), np.float32)
        for first in range(0, len(rows), WRITTEN):
            ids = rows[first : first + WRITTEN]
            answers: list[Any] = self._client.get(self._name, ids=ids.tolist(), output_fields=["row", "vector"])
            place = np.searchsorted(ids, [answer["row"] for answer in answers])
            found[first + place] = [answer["vector"] for answer in answers]
        return found


def listed(rows: Mask) -> str:
    return str(np.flatnonzero(rows).tolist())


def gone(client: MilvusClient, name: str) -> None:
    """Drop a collection that nobody searches any more; one that cannot be dropped is the operator's."""
    try:
        client.drop_collection(name, timeout=GONE_S)
    except MilvusException:
        return
