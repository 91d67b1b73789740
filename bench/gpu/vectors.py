"""Vector search of one kind on a card: `python -m bench.gpu.vectors flat …`; on the CPU where there is none.

The vectors are those of `bench.vectors`, clustered and generated. An index is built as training builds it, tuned and
copied to the card as serving does that, and searched through serving's port for 100 nearest, by one caller at a time:
singly, and by batches as concurrent requests make them. A build on the card itself is timed beside it. Figures: `recall`
at 100 against all vectors compared, `build_s`, `card_build_s`, `copy_s`, `card_mb`, and by batch `query_ms`, the median by
the clock over the queries of a call, and `call_p99_ms`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.gpu.apart import chosen, options, tell, wall_ms
from bench.vectors import DIM, World, recall
from services.retrieval.indexes.device import ON_DEVICE, missing_device, on_device
from services.retrieval.indexes.flat import FaissIndex, lib
from services.retrieval.indexes.stored import index_of
from training.vector_index import built, exact, recipe
from winnow.types import Floats

K = 100


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched: a world, how many ask at once, and for how long each batch is measured."""

    world: World
    batches: Sequence[int]
    seconds: float


def measured(kind: str, search: Search, device: str) -> tuple[dict[str, float], dict[str, str]]:
    """Figures, and what is missing. Beside a card, the CPU answers single queries, for the ratio."""
    began = time.perf_counter()
    index, _ = built(kind, search.world.vectors, search.world.tuners, K)
    figures = {"build_s": time.perf_counter() - began}
    here = bound(index_of(index, "index.faiss"), len(search.world.vectors))
    single = search.batches if device == "cpu" else search.batches[:1]
    figures |= named("on_cpu", asked(here, search, single))
    if device == "cpu":
        return figures, {}
    if reason := missing_device():
        return figures, {"on_card": reason}
    figures |= named("on_card", copied(here, search) | {"card_build_s": built_there(kind, search.world.vectors)})
    return figures, {}


def copied(here: FaissIndex, search: Search) -> dict[str, float]:
    """The index on the card, as serving puts it there, and asked."""
    free, began = free_mb(), time.perf_counter()
    there = on_device(here)
    found = {"copy_s": time.perf_counter() - began, "card_mb": free - free_mb()}
    return found | asked(bound(there, len(search.world.vectors)), search, search.batches)


def built_there(kind: str, vectors: Floats) -> float:
    """Seconds in which the card itself learns the cells and takes the vectors."""
    empty = lib.index_factory(DIM, recipe(kind, *vectors.shape), lib.METRIC_INNER_PRODUCT)
    began = time.perf_counter()
    there = lib.index_cpu_to_gpu(lib.StandardGpuResources(), 0, empty)
    there.train(vectors)
    there.add(vectors)
    return time.perf_counter() - began


def asked(index: FaissIndex, search: Search, batches: Sequence[int]) -> dict[str, float]:
    """Recall over everybody, and times by batch."""
    everybody = search.world.people
    nearest = exact(search.world.vectors, everybody, K)
    figures = {"recall": recall(found(index, everybody), nearest)}
    for size in batches:
        took = wall_ms(turns(index, everybody, size), search.seconds)
        figures[f"batch_{size}.query_ms"] = float(np.median(took)) / size
        figures[f"batch_{size}.call_p99_ms"] = float(np.quantile(took, 0.99))
    return figures


def turns(index: FaissIndex, people: Floats, size: int) -> Callable[[int], Any]:
    """Other people at every call, everybody in turn."""
    rows = np.arange(size)
    return lambda k: found(index, people[(rows + k * size) % len(people)])


def found(index: FaissIndex, people: Floats) -> Any:
    return index.search(people, K, None, [np.empty(0, np.int64)] * len(people))[1]


def bound(index: FaissIndex, n: int) -> FaissIndex:
    index.bind(np.arange(n), np.arange(n))
    return index


def free_mb() -> float:
    """Of the card, whoever uses the rest."""
    import torch

    return float(torch.cuda.mem_get_info()[0]) / 2**20


def named(start: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{start}.{name}": value for name, value in figures.items()}


def main(argv: Sequence[str] | None = None) -> None:
    made = options(__doc__.splitlines()[0])
    made.add_argument("kind", choices=ON_DEVICE)
    made.add_argument("--items", type=int, required=True)
    made.add_argument("--batches", type=int, nargs="+", required=True)
    made.add_argument("--seconds", type=float, required=True)
    given = chosen(made, argv)
    search = Search(World.generate(given.items), given.batches, given.seconds)
    tell(given.out, *measured(given.kind, search, given.device))


if __name__ == "__main__":
    main()
