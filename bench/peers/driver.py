"""Asks one recommender, in the environment that it needs: `python -m bench.peers.driver ADAPTER MODEL DATA OUT`.

Everything comes as `DATA/data.npz`; what was measured goes to `OUT/result.json` and the answers to `OUT/answers.npy`,
where whoever started this judges them: this process never sees the right ones. Runs under any NumPy from 1.21 on and
imports nothing else but the standard library and the adapter. With `--port` the recommender's own server is started
instead, after the fit, until somebody ends it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

WANTED = 10  # items of one answer
WARM = 20  # questions before the clock starts


@dataclass(frozen=True)
class Data:
    """a acts of p people on N items, one person after another, oldest first, and the q people who are asked for."""

    items: Ints  # (a,) item rows
    starts: Ints  # (p + 1,) where each person begins
    n_items: int
    asked: Ints  # (q,) people

    @classmethod
    def read(cls, folder: Path) -> Data:
        with np.load(folder / "data.npz", allow_pickle=False) as held:
            return cls(held["items"], held["starts"], int(held["n_items"]), held["asked"])

    def write(self, folder: Path) -> None:
        np.savez(folder / "data.npz", items=self.items, starts=self.starts, n_items=self.n_items, asked=self.asked)

    @property
    def n_users(self) -> int:
        return len(self.starts) - 1

    def of(self, user: int) -> Ints:
        """The item rows of one person, oldest first."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def users(self) -> Ints:
        """(a,) who acted."""
        return np.repeat(np.arange(self.n_users), np.diff(self.starts))


class Adapter(Protocol):
    """A recommender as whoever uses it from Python meets it. People and items are the rows of `Data`."""

    def fit(self, data: Data) -> None: ...

    def one(self, user: int) -> Sequence[int] | Ints:
        """`WANTED` items that the person has not acted on, best first."""
        ...

    def many(self, users: Ints) -> object:
        """The same for many at once, as the recommender likes it best; only its cost is looked at."""
        ...


class Served(Adapter, Protocol):
    """One that brings a server."""

    def serve(self, port: int) -> None:
        """Answer on 127.0.0.1 until the process is ended."""
        ...


def asked(adapter: Adapter, data: Data) -> tuple[dict[str, Any], Ints]:
    """Figures, and (q, WANTED) answers; -1 where an answer was shorter."""
    for user in data.asked[:WARM]:
        adapter.one(int(user))
    answers = np.full((len(data.asked), WANTED), -1, np.int64)
    took_ms = np.empty(len(data.asked))
    cpu = time.process_time()
    for n, user in enumerate(data.asked):
        began = time.perf_counter()
        found = adapter.one(int(user))
        took_ms[n] = (time.perf_counter() - began) * 1000
        answers[n, : len(found)] = found
    cpu_ms = (time.process_time() - cpu) * 1000 / len(data.asked)
    return {"one_ms": took_ms.tolist(), "one_cpu_ms": cpu_ms}, answers


def batch_cpu_ms(adapter: Adapter, data: Data) -> float:
    """CPU milliseconds a person when all are asked for in one call."""
    adapter.many(data.asked[:WARM])
    cpu = time.process_time()
    adapter.many(data.asked)
    return (time.process_time() - cpu) * 1000 / len(data.asked)


def measured(adapter: Adapter, data: Data, out: Path) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    adapter.fit(data)
    fitted = {"fit_s": time.perf_counter() - wall, "fit_cpu_s": time.process_time() - cpu}
    figures, answers = asked(adapter, data)
    figures |= fitted | {"batch_cpu_ms": batch_cpu_ms(adapter, data)}
    figures["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(out / "answers.npy", answers)
    (out / "result.json").write_text(json.dumps(figures), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", help="a module with MODELS")
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--port", type=int, help="serve there instead of measuring")
    chosen = parser.parse_args()
    adapter = importlib.import_module(chosen.adapter).MODELS[chosen.model]()
    data = Data.read(chosen.data)
    if chosen.port is None:
        measured(adapter, data, chosen.out)
        return
    adapter.fit(data)
    cast(Served, adapter).serve(chosen.port)


if __name__ == "__main__":
    main()
