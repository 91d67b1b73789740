"""The bare models on one thread: what a request would cost if nothing were around them.

The same ONNX files and the same index that the services load, on inputs of the right shapes. Times are CPU time of the
calling thread, which on one thread is what a stopwatch shows on an idle machine, and stays true on a busy one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import faiss
import numpy as np
import numpy.typing as npt

from services.retrieval.indexes.cells import farther
from winnow.artifacts import Bundle
from winnow.encoding import Schema
from winnow.inference import OnnxModel, largest_difference
from winnow.types import HISTORY

Array = npt.NDArray[Any]
Step = Callable[[int], object]  # the k-th time, with the k-th inputs

TABLE = 20_000  # items whose states are computed for the ranker's steps: far more than any cache holds
BLOCK = 1_000
TURNS = 64  # different people that take turns: as in serving, nobody finds the caches warm from the last request
ALIKE = 5  # items that a history is spread around


def ids_of(schema: Schema, n: int, rng: np.random.Generator) -> Array:
    """(n, width) int64 random vocabulary rows: each feature within its own table."""
    columns = [
        rng.integers(0, len(schema.vocabularies[f.vocabulary]), (n, f.slots), np.int64) for f in schema.categorical
    ]
    return np.concatenate(columns, axis=1)


def encoded(schema: Schema, n: int, rng: np.random.Generator) -> dict[str, Array]:
    """Inputs `ids` and `numbers` of a model over `n` random people or items."""
    return {"ids": ids_of(schema, n, rng), "numbers": rng.standard_normal((n, len(schema.numeric)), np.float32)}


def history(together: Array, rng: np.random.Generator) -> Array:
    """(50,) rows that somebody might have acted on: some items and what goes with them (N, K; -1: nothing)."""
    liked = rng.integers(0, len(together), ALIKE)
    around = np.unique(together[liked])
    return rng.choice(np.concatenate([liked, around[around >= 0]]), HISTORY)


@dataclass(frozen=True, slots=True)
class Finder:
    """User tower and vector search of a retrieval bundle. `wanted` items are searched for."""

    tower: OnnxModel
    index: Any
    people: Sequence[Mapping[str, Array]]
    wanted: int

    @classmethod
    def load(cls, bundle: Bundle, wanted: int, seed: int = 0) -> Self:
        rng = np.random.default_rng(seed)
        schema = Schema.from_json(bundle.facts["schemas"]["user_tower"], bundle.vocabularies())
        vectors = np.load(bundle.file("item_vectors.npy"), mmap_mode="r", allow_pickle=False)
        kinds = len(bundle.facts["event_types"])
        together = np.load(bundle.file("together_rows.npy"), mmap_mode="r", allow_pickle=False)
        people = [
            {
                "ids": ids_of(schema, 1, rng),
                "history": np.asarray(vectors[history(together, rng)])[None],
                "history_types": rng.integers(1, kinds + 1, (1, HISTORY), np.int64),
                "history_values": rng.standard_normal((1, HISTORY), np.float32),
            }
            for _ in range(TURNS)
        ]
        index = faiss.read_index(str(bundle.file("index.faiss")))
        cells: Any = faiss.try_extract_index_ivf(index)
        if cells is not None:
            cells.nprobe = round(cells.nprobe * farther(wanted))  # as serving does
        return cls(OnnxModel(bundle.file("user_tower.onnx")), index, people, min(wanted, len(vectors)))

    def steps(self) -> dict[str, Step]:
        wanted = [self.tower.run(person)["vector"] for person in self.people]
        return {
            "user_tower": lambda k: self.tower.run(self.people[k % TURNS]),
            "search": lambda k: self.index.search(wanted[k % TURNS], self.wanted),
        }


@dataclass(frozen=True, slots=True)
class Scorer:
    """The ranker of a ranking bundle, split and in one piece, over a table of random items."""

    user_net: OnnxModel
    cross: OnnxModel
    plain: OnnxModel
    people: Sequence[Mapping[str, Array]]
    items: Mapping[str, Array]
    vectors: Array  # (TABLE, I, 64) item_net's output
    hidden: Array  # (TABLE, H)
    candidates: Sequence[Array]  # per turn (largest n, C)
    rows: Sequence[Array]  # per turn (largest n,) rows of the table

    @classmethod
    def load(cls, bundle: Bundle, largest: int, seed: int = 0, table: int = TABLE) -> Self:
        rng = np.random.default_rng(seed)
        vocabularies, facts = bundle.vocabularies(), bundle.facts
        items = encoded(Schema.from_json(facts["schemas"]["item"], vocabularies), table, rng)
        item_net = OnnxModel(bundle.file("item_net.onnx"))
        blocks = [
            item_net.run({name: column[start : start + BLOCK] for name, column in items.items()})
            for start in range(0, table, BLOCK)
        ]
        user_schema = Schema.from_json(facts["schemas"]["user"], vocabularies)
        return cls(
            user_net=OnnxModel(bundle.file("user_net.onnx")),
            cross=OnnxModel(bundle.file("cross.onnx")),
            plain=OnnxModel(bundle.file("plain.onnx")),
            people=[encoded(user_schema, 1, rng) for _ in range(TURNS)],
            items=items,
            vectors=np.concatenate([block["vectors"] for block in blocks]),
            hidden=np.concatenate([block["hidden"] for block in blocks]),
            candidates=[rng.random((largest, len(facts["candidates"])), np.float32) for _ in range(TURNS)],
            rows=[rng.choice(table, largest, replace=False) for _ in range(TURNS)],
        )

    def person(self, k: int) -> dict[str, Array]:
        return self.user_net.run(self.people[k % TURNS])

    def meeting(self, k: int, n: int, person: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs of the cross network: one person and `n` items of the table."""
        rows = self.rows[k % TURNS][:n]
        return {
            "user_vectors": person["vectors"],
            "user_hidden": person["hidden"],
            "item_vectors": self.vectors[rows][None],
            "item_hidden": self.hidden[rows][None],
            "candidates": self.candidates[k % TURNS][None, :n],
        }

    def factorised(self, k: int, n: int) -> Array:
        """(n, 3) heads: the user's part once, the items' states gathered, then where they meet."""
        heads: Array = self.cross.run(self.meeting(k, n, self.person(k)))["heads"][0]
        return heads

    def whole(self, k: int, n: int) -> Array:
        """(n, 3) heads of the same candidates by the graph that shares nothing between them."""
        person, rows = self.people[k % TURNS], self.rows[k % TURNS][:n]
        inputs = {
            "user_ids": np.repeat(person["ids"], n, axis=0),
            "user_numbers": np.repeat(person["numbers"], n, axis=0),
            "item_ids": self.items["ids"][rows],
            "item_numbers": self.items["numbers"][rows],
            "candidates": self.candidates[k % TURNS][:n],
        }
        heads: Array = self.plain.run(inputs)["heads"]
        return heads

    def difference(self, n: int) -> float:
        """The largest difference between the two, over all turns."""
        return max(largest_difference(self.factorised(k, n), self.whole(k, n)) for k in range(TURNS))

    def steps(self, n: int) -> dict[str, Step]:
        inputs = [self.meeting(k, n, self.person(k)) for k in range(TURNS)]
        return {"user_net": self.person, f"cross_{n}": lambda k: self.cross.run(inputs[k % TURNS])}

    def races(self, n: int) -> dict[str, Step]:
        return {f"{n}.plain": lambda k: self.whole(k, n), f"{n}.factorised": lambda k: self.factorised(k, n)}


def time_steps(steps: Mapping[str, Step], seconds: float, at_least: int = TURNS) -> dict[str, Array]:
    """CPU milliseconds per call of each step, all steps in turn so that they meet the same machine."""
    faiss.omp_set_num_threads(1)
    for step in steps.values():
        step(0)
    took: dict[str, list[float]] = {name: [] for name in steps}
    until, k = time.monotonic() + seconds, 0
    while time.monotonic() < until or k < at_least:
        for name, step in steps.items():
            began = time.thread_time()
            step(k)
            took[name].append((time.thread_time() - began) * 1000)
        k += 1
    return {name: np.array(times) for name, times in took.items()}
