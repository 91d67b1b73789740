"""The vector index of a retrieval bundle: which kind for how many items, and what it finds of what exact search does.

Which kind is asked for by name (`winnow train retrieval --index`), or chosen. What serving does with it, under filters
and while items come and go, is not known here (services/retrieval/indexes).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from training.vector_cells import centres
from winnow.artifacts import Bundle
from winnow.errors import InvalidArgument
from winnow.types import Floats

log = logging.getLogger(__name__)

AUTO = "auto"
KINDS = ("flat", "fp16", "sq8", "ivf", "ivf_hnsw", "ivf_sq8", "ivf_pq", "hnsw", "hnsw_sq8")
CODED = ("sq8", "ivf_sq8", "ivf_pq", "hnsw_sq8")
"""Kinds that do not keep whole vectors: at the best they find what their rounding leaves."""

# At 100,000 trained vectors: 1,024 cells, 64 of them looked into, 0.3 ms at a recall of 0.999 for 500; a graph of
# 32 links 1.5 ms, all vectors 3.2 ms, in half precision 2.2 ms.
CELLS_FROM = 50_000  # items; below, comparing all is as fast
CELLS_PER_ROOT = 3  # cells per square root of the items
ITEMS_PER_CELL = 39  # at least: what FAISS wants to learn a centre from
LEAST_PROBES, MOST_PROBES = 16, 256
LINKS, LINK_BREADTH = 32, 80  # of the graph: neighbours of an item, and how broadly they are looked for
LEAST_BREADTH, MOST_BREADTH = 64, 512
MORE = (2, 3, 4, 6, 8, 12, 16)  # times as many as asked for that product codes hand on to be compared again
COMPARED_AGAIN = 64  # codes that are scanned in the time that one vector takes to be compared again: 0.7 µs, 11 ns
WIDER = 0.02  # how much more than the items' range a byte covers: items still to come go a little beyond
RECALL = 0.98  # at 100, of other people than those whom an index is tuned for
GAIN = 0.001  # of recall: what looking twice as far must bring at least
TIMED = 100  # people whose searches are timed

Shares = npt.NDArray[np.float64]


def check_kind(kind: str) -> str:
    if kind not in (AUTO, *KINDS):
        raise InvalidArgument(f"no index {kind!r}; known are {', '.join((AUTO, *KINDS))}", field="index")
    return kind


def write_index(path: Path, vectors: Floats, people: Floats, k: int = 100, *, asked: str = AUTO) -> dict[str, Any]:
    """Build the index; returns what the manifest says of it: recall@100 is against exact search, for real people.

    Left to choose, many vectors are searched by cells, of which a request looks into as few as find what is there. Where
    even many cells find too little (vectors without clusters), all vectors are compared in half precision.
    """
    n = len(vectors)
    silent = not vectors.any()  # a model that serves no vectors has zeros
    kind = check_kind(asked)
    if kind == AUTO or silent:
        kind = "flat" if n < CELLS_FROM or silent else "ivf"
    index, recall = built(kind, vectors, people, k)
    if asked == AUTO and kind == "ivf" and recall < RECALL:
        kind = "fp16"
        index, recall = built(kind, vectors, people, k)
    if silent:
        recall = 1.0  # of nothing: who comes first among equals is no question
    saved(index, path / "index.faiss")
    size = (path / "index.faiss").stat().st_size / max(n, 1)
    ms = median_ms(index, people, k)
    log.info("index %s: recall@%d %.4f, %.1f bytes per item, %.2f ms per search", kind, k, recall, size, ms)
    return {"kind": kind, "asked": asked, "recall_at_100": round(recall, 4), "bytes_per_item": round(size, 1)}


def built(kind: str, vectors: Floats, people: Floats, k: int) -> tuple[Any, float]:
    """An index of this kind that looks as far as it must, and its recall@k over these people."""
    index = filled(kind, vectors)
    return index, tuned(index, kind, people, exact(vectors, people, min(k, len(vectors))))


def saved(index: Any, file: Path) -> None:
    faiss.write_index(index, str(file))


def filled(kind: str, vectors: Floats) -> Any:
    """A FAISS index of this kind over the vectors, by inner product. The same vectors give the same index."""
    n, dim = vectors.shape
    index: Any = faiss.index_factory(dim, recipe(kind, n, dim), faiss.METRIC_INNER_PRODUCT)
    cells: Any = faiss.try_extract_index_ivf(index)
    finer: Any = faiss.downcast_index(index.refine_index) if kind == "ivf_pq" else index
    for coded in (finer, cells):
        if hasattr(coded, "sq"):
            coded.sq.rangestat_arg = WIDER
    if kind.startswith("hnsw"):
        index.hnsw.efConstruction = LINK_BREADTH
    threads = faiss.omp_get_max_threads()
    learnt = None if cells is None else centres(vectors, cells.nlist)
    if "hnsw" in kind:
        faiss.omp_set_num_threads(1)  # several threads would link a graph that depends on who came first
    if learnt is not None:
        faiss.downcast_index(cells.quantizer).add(learnt)
    index.train(vectors)  # leaves centres that are there as they are
    index.add(vectors)
    faiss.omp_set_num_threads(threads)
    return index


def recipe(kind: str, n: int, dim: int) -> str:
    """As FAISS's index factory writes it."""
    cells = cells_for(n)
    recipes = {
        "flat": "Flat",
        "fp16": "SQfp16",
        "sq8": "SQ8",
        "ivf": f"IVF{cells},Flat",
        "ivf_hnsw": f"IVF{cells}_HNSW32,Flat",
        "ivf_sq8": f"IVF{cells},SQ8",
        "ivf_pq": f"IVF{cells},PQ{dim // 2}x4fsr,Refine(SQ8)",
        "hnsw": f"HNSW{LINKS},Flat",
        "hnsw_sq8": f"HNSW{LINKS},SQ8",
    }
    return recipes[kind]


def cells_for(n: int) -> int:
    """A power of two: enough cells that each is small, few enough that each has items to be learnt from."""
    wanted = round(math.log2(max(CELLS_PER_ROOT * math.sqrt(n), 1)))
    return int(2 ** max(min(wanted, math.floor(math.log2(max(n / ITEMS_PER_CELL, 1)))), 0))


def tuned(index: Any, kind: str, people: Floats, nearest: Any) -> float:
    """Have the index look no farther for these people's nearest (b, k) than surely reaches the recall that is wanted;
    returns what it reaches. Serving looks farther where more is asked for."""

    def reached() -> float:
        return surely(recalls(index, people, nearest))

    cells = faiss.try_extract_index_ivf(index)
    if kind.startswith("hnsw"):
        widened(index.hnsw, "efSearch", LEAST_BREADTH, MOST_BREADTH, reached)
    elif kind == "ivf_pq":
        refined(index, cells, nearest.shape[1], reached)
    elif cells is not None:
        widened(cells, "nprobe", LEAST_PROBES, MOST_PROBES, reached)
    return float(recalls(index, people, nearest).mean())


def refined(index: Any, cells: Any, k: int, reached: Callable[[], float]) -> None:
    """Few cells whose codes hand on many, or many cells that hand on few: what costs least of what reaches the target.
    By a count and not by a clock: the same vectors make the same index."""
    best = (math.inf, MOST_PROBES, MORE[-1])  # its cost, cells, and how many times as many are handed on
    for more in MORE:
        again = COMPARED_AGAIN * k * more
        if again > best[0]:
            break
        index.k_factor, cells.nprobe = more, MOST_PROBES
        if reached() >= RECALL and widened(cells, "nprobe", LEAST_PROBES, MOST_PROBES, reached) >= RECALL:
            best = min(best, (again + cells.nprobe * index.ntotal / cells.nlist, cells.nprobe, more))
    _, cells.nprobe, index.k_factor = best
    if best[0] == math.inf:
        widened(cells, "nprobe", LEAST_PROBES, MOST_PROBES, reached)


def widened(search: Any, width: str, least: int, most: int, reached: Callable[[], float]) -> float:
    """Widen a search, twice as far each time, until it reaches the target; of the last step, keep what is needed, to an
    eighth. A step that brings nothing is taken back, and is the last. Returns what is reached."""

    def at(n: int) -> float:
        setattr(search, width, n)
        return reached()

    low = high = least
    recall = at(least)
    while recall < RECALL and high < most:
        low, high, before = high, 2 * high, recall
        recall = at(high)
        if recall < min(before + GAIN, RECALL):
            return at(low)
    step = max(low // 8, 1)
    while recall >= RECALL and high - low > step:
        middle = (low + high) // 2
        found = at(middle)
        low, high, recall = (low, middle, found) if found >= RECALL else (middle, high, recall)
    setattr(search, width, high)
    return recall


def exact(vectors: Floats, people: Floats, k: int) -> Any:
    """(b, k) each person's true nearest, all vectors compared."""
    return faiss.knn(people, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)[1]


def recalls(index: Any, people: Floats, nearest: Any) -> Shares:
    """(b,) the share of each person's true k nearest that the index finds."""
    k = int(nearest.shape[1])
    found = index.search(people, k)[1]
    return np.array([len(np.intersect1d(a, b)) / k for a, b in zip(found, nearest, strict=True)])


def surely(recalls: Shares) -> float:
    """What other people of the same kind will have on average, but for one time in forty: these are but a sample."""
    return float(recalls.mean() - 2 * recalls.std() / math.sqrt(len(recalls)))


def median_ms(index: Any, people: Floats, k: int) -> float:
    """Milliseconds of one search on one thread."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    took = []
    for person in people[:TIMED]:
        began = time.perf_counter()
        index.search(person[None], min(k, index.ntotal))
        took.append(1000 * (time.perf_counter() - began))
    faiss.omp_set_num_threads(threads)
    return float(np.median(took))


def described(bundle: Bundle) -> dict[str, Any]:
    """What the manifest says of a bundle's index, and how long a search for what is like an item takes here and now."""
    index = faiss.read_index(str(bundle.file("index.faiss")))
    items = np.load(bundle.file("item_vectors.npy"), mmap_mode="r", allow_pickle=False)
    some = np.ascontiguousarray(items[np.linspace(0, len(items) - 1, min(len(items), TIMED)).astype(np.int64)])
    return {**bundle.facts["index"], "ms": round(median_ms(index, some, 100), 3)}
