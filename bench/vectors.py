"""`make bench-vectors`: every kind of vector index over the same made-up vectors: build, size, recall, latency, filters.

The vectors are generated in clusters, because no data set here has a million items; trained ones are in clusters, too, and
how clear theirs are decides what an approximate index finds of them (docs/performance.md). Searches go through the port
that serving uses, one person after the other, each with own exceptions, on one thread. Times are CPU time of that thread,
which on one thread is what a stopwatch shows on an idle machine, and stays true on a busy one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.figures import Aim, Figures, machine
from services.retrieval.indexes import VectorIndex
from services.retrieval.indexes.stored import from_file, index_of
from training.vector_index import KINDS, built, exact, saved
from winnow.catalogue import Mask, Rows
from winnow.types import Floats

OUT = Path("build/bench-vectors.json")
WIDE = 160  # columns that the table needs
PLOT = Path("docs/recall-latency.svg")
DIM = 128
CATEGORIES, ITEMS_PER_CLUSTER = 64, 250
SPREAD, INTEREST = 0.9, 0.6  # of an item around its cluster, and of a person around an item that they like
TUNERS, PEOPLE, FILTERED = 256, 512, 48  # people whom an index is tuned for, measured with, and measured with filters
LEFT_OUT = 100  # rows that a person has seen
SHARES = {"10": 0.1, "1": 0.01, "0_1": 0.001}  # percent that a filter lets through, by chance
CLUSTERED = 0.01  # and one that lets whole clusters through: what matches lies together, and mostly elsewhere
WIDTHS = {"nprobe": (8, 16, 32, 64, 128, 192, 256), "efSearch": (32, 64, 128, 256)}

AIMS = (
    Aim("vectors.fastest_at_recall_98.p50_ms", 2),
    Aim("vectors.smallest_at_recall_98.bytes_per_item", 200),
    Aim("vectors.fill_percent", 100, at_most=False),
)


@dataclass(frozen=True, eq=False)
class World:
    """Unit vectors (N, 128), the cluster of each, and people (b, 128) who like some of them."""

    vectors: Floats
    cluster: Rows
    tuners: Floats
    people: Floats

    @classmethod
    def generate(cls, items: int, seed: int = 0) -> World:
        """Categories, clusters around them (some large, most small), items around those, people around items."""
        rng = np.random.default_rng(seed)
        categories = unit(normal(rng, CATEGORIES))
        clusters = max(items // ITEMS_PER_CLUSTER, 1)
        centres = unit(categories[rng.integers(0, CATEGORIES, clusters)] + normal(rng, clusters))
        size = rng.pareto(2.0, clusters) + 0.2
        cluster = np.sort(rng.choice(clusters, items, p=size / size.sum()))
        vectors = np.empty((items, DIM), np.float32)
        for first in range(0, items, 100_000):
            some = cluster[first : first + 100_000]
            vectors[first : first + 100_000] = unit(centres[some] + SPREAD * normal(rng, len(some)))
        liked = vectors[rng.integers(0, items, TUNERS + PEOPLE)]
        people = unit(liked + INTEREST * normal(rng, len(liked)))
        order = rng.permutation(items)
        return cls(vectors[order], cluster[order], people[:TUNERS], people[TUNERS:])


def normal(rng: np.random.Generator, n: int) -> Floats:
    """(n, 128) of length 1 on average."""
    return rng.standard_normal((n, DIM), np.float32) / np.float32(np.sqrt(DIM))


def unit(vectors: Floats) -> Floats:
    rows: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows


LEAST_ITEMS = 5_000


@dataclass
class Bench:
    """What is measured, into `figures` below `vectors.ITEMS`."""

    world: World
    figures: Figures
    say: Callable[[str], None]
    nearest: Any = None  # (b, 500) each person's true nearest

    def __post_init__(self) -> None:
        self.nearest = exact(self.world.vectors, self.world.people, min(500, len(self.world.vectors)))
        rng = np.random.default_rng(1)
        self.without = [np.unique(rng.integers(0, len(self.world.vectors), LEFT_OUT)) for _ in self.world.people]

    def kind(self, kind: str) -> None:
        """One kind: built and tuned, read back as serving reads it, searched without and with filters."""
        vectors = self.world.vectors
        began = time.process_time()
        index, _ = built(kind, vectors, self.world.tuners, 100)
        self.put(kind, "build_cpu_s", time.process_time() - began)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "index.faiss"
            saved(index, file)
            self.put(kind, "bytes_per_item", file.stat().st_size / len(vectors))
            index = from_file(file)
        serving = self.bound(index)
        for k in (100, 500):
            found, took = self.searched(serving, k, len(self.world.people))
            self.put(kind, f"k{k}.recall", recall(found, self.nearest[:, :k]))
            self.put(kind, f"k{k}.p50_ms", float(np.median(took)))
            self.put(kind, f"k{k}.p99_ms", float(np.quantile(took, 0.99)))
        self.filtered(kind, serving)
        self.curve(kind, index)
        self.say(
            f"{kind}: " + ", ".join(f"{name} {value:.4g}" for name, value in self.of(kind).items() if "k100" in name)
        )

    def bound(self, index: Any) -> VectorIndex:
        made = index_of(index, "index.faiss")
        rows = np.arange(len(self.world.vectors))
        made.bind(rows, rows)
        return made

    def searched(self, index: VectorIndex, k: int, people: int) -> tuple[Rows, list[float]]:
        """(b, k) rows, and milliseconds per search, for people who have seen nothing."""
        nothing = [np.empty(0, np.int64)]
        found, took = [], []
        index.search(self.world.people[:1], k, None, nothing)
        for person in self.world.people[:people]:
            began = time.thread_time()
            found.append(index.search(person[None], k, None, nothing)[1][0])
            took.append(1000 * (time.thread_time() - began))
        return np.stack(found), took

    def filtered(self, kind: str, index: VectorIndex) -> None:
        """By the share of the items that a filter lets through: latency, fill and recall for 100 nearest."""
        rng = np.random.default_rng(2)
        n = len(self.world.vectors)
        everything = np.ones(n, np.bool_)  # one array, as requests without a filter share one
        self.under(kind, "all", index, lambda: everything)
        for name, share in SHARES.items():
            self.under(kind, name, index, partial(chance, rng, n, share))
        self.under(kind, "clusters_1", index, partial(some_clusters, rng, self.world.cluster))

    def under(self, kind: str, name: str, index: VectorIndex, mask_of: Callable[[], Mask], k: int = 100) -> None:
        took, filled, hits = [], [], []
        for n, person in enumerate(self.world.people[:FILTERED]):
            mask, out = mask_of(), self.without[n]
            began = time.thread_time()
            rows = index.search(person[None], k, mask, [out])[1][0]
            took.append(1000 * (time.thread_time() - began))
            open_rows = mask.copy()
            open_rows[out] = False
            wanted = best(self.world.vectors, person, open_rows, k)
            filled.append(np.count_nonzero(open_rows[rows[rows >= 0]]) == len(wanted))
            hits.append(len(np.intersect1d(rows, wanted)) / max(len(wanted), 1))
        self.put(kind, f"filter_{name}.p50_ms", float(np.median(took)))
        self.put(kind, f"filter_{name}.p99_ms", float(np.quantile(took, 0.99)))
        self.put(kind, f"filter_{name}.fill_percent", 100 * float(np.mean(filled)))
        self.put(kind, f"filter_{name}.recall", float(np.mean(hits)))

    def curve(self, kind: str, index: Any) -> None:
        """Recall and latency at several widths of the search, where the kind has one."""
        cells = faiss.try_extract_index_ivf(index)
        inner, width = (cells, "nprobe") if cells is not None else (getattr(index, "hnsw", None), "efSearch")
        if inner is None:
            return
        for n in WIDTHS[width]:
            setattr(inner, width, n)
            found, took = self.searched(self.bound(index), 100, 200)
            self.put(kind, f"curve.{n}.recall", recall(found, self.nearest[: len(found), :100]))
            self.put(kind, f"curve.{n}.p50_ms", float(np.median(took)))

    def put(self, kind: str, name: str, value: float) -> None:
        self.figures.put(f"vectors.{len(self.world.vectors)}.{kind}.{name}", value)

    def of(self, kind: str) -> dict[str, float]:
        start = f"vectors.{len(self.world.vectors)}.{kind}."
        return {name.removeprefix(start): v for name, v in self.figures.values.items() if name.startswith(start)}

    def summary(self, kinds: Sequence[str]) -> None:
        """The figures that have aims."""
        good = [one for one in map(self.of, kinds) if one["k100.recall"] >= 0.98]
        if good:
            self.figures.put(AIMS[0].name, min(one["k100.p50_ms"] for one in good))
            self.figures.put(AIMS[1].name, min(one["bytes_per_item"] for one in good))
        fills = [v for kind in kinds for name, v in self.of(kind).items() if name.endswith("fill_percent")]
        self.figures.put(AIMS[2].name, min(fills))


def chance(rng: np.random.Generator, n: int, share: float) -> Mask:
    return rng.random(n) < share


def some_clusters(rng: np.random.Generator, cluster: Rows) -> Mask:
    chosen = np.zeros(int(cluster.max()) + 1, np.bool_)
    chosen[rng.choice(len(chosen), max(round(CLUSTERED * len(chosen)), 2), replace=False)] = True
    return chosen[cluster]


def best(vectors: Floats, person: Floats, mask: Mask, k: int) -> Rows:
    rows = np.flatnonzero(mask)
    near = vectors[rows] @ person if len(rows) < len(vectors) // 2 else (vectors @ person)[rows]
    return rows[np.argsort(-near)[:k]]


def recall(found: Rows, nearest: Rows) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, nearest, strict=True)]) / nearest.shape[1])


def table(bench: Bench, kinds: Sequence[str]) -> Table:
    shown = Table("index", title=f"{len(bench.world.vectors):,} × {DIM}, one core", title_justify="left")
    columns: tuple[str, ...] = (
        "build_cpu_s",
        "bytes_per_item",
        "k100.recall",
        "k100.p50_ms",
        "k100.p99_ms",
        "k500.recall",
        "k500.p50_ms",
    )
    columns += tuple(f"filter_{name}.p50_ms" for name in ("all", *SHARES, "clusters_1"))
    for column in (*columns, "fill %"):
        shown.add_column(column.replace(".", "\n").replace("_", " "), justify="right")
    for kind in kinds:
        figures = bench.of(kind)
        fill = min(v for name, v in figures.items() if name.endswith("fill_percent"))
        shown.add_row(kind, *(f"{figures[column]:.3g}" for column in columns), f"{fill:.4g}")
    return shown


def plot(bench: Bench, kinds: Sequence[str], file: Path) -> None:
    """Recall against latency, a line per kind; the same bytes wherever and whenever it is drawn of the same figures."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "winnow"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for kind in kinds:
        figures = bench.of(kind)
        widths = [name.removesuffix(".recall") for name in figures if name.startswith("curve.") and "recall" in name]
        points = [(figures[f"{w}.p50_ms"], figures[f"{w}.recall"]) for w in widths] or [
            (figures["k100.p50_ms"], figures["k100.recall"])
        ]
        axes.plot(
            *zip(*points, strict=True), marker="o", markersize=4, label=f"{kind}, {figures['bytes_per_item']:.0f} B"
        )
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds per search, one core (median)")
    axes.set_ylabel("recall@100")
    axes.set_title(f"{len(bench.world.vectors):,} generated vectors × {DIM}, in clusters")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": "winnow bench"})
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """0, whatever the aims say; they are printed beside the figures."""
    arguments = parser().parse_args(argv)
    console, started = Console(), time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {text}", highlight=False)

    bench = Bench(World.generate(arguments.items), Figures(), say)
    say(f"{arguments.items:,} vectors generated, {len(bench.world.people)} people compared with all of them")
    for kind in arguments.kinds:
        bench.kind(kind)
        bench.figures.save(arguments.out)
    bench.summary(arguments.kinds)
    bench.figures.save(arguments.out)
    arguments.out.with_suffix(".machine.json").write_text(json.dumps(machine(), indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        plot(bench, arguments.kinds, arguments.plot)
    wide = Console(width=max(console.width, WIDE))  # a table that is cut says nothing, in a log least of all
    wide.print(table(bench, arguments.kinds))
    for aim in AIMS:
        if (value := bench.figures.values.get(aim.name)) is not None:
            console.print(f"{aim.name} {value:.4g}, aim {aim}: {'met' if aim.met(value) else '[red]not met[/]'}")
    return 0


def enough(words: str) -> int:
    if not words.isdecimal() or int(words) < LEAST_ITEMS:
        raise argparse.ArgumentTypeError(f"a whole number from {LEAST_ITEMS:,} on: fewer are searched by comparing all")
    return int(words)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=main.__doc__, prog="python -m bench.vectors")
    made.add_argument("--items", type=enough, default=1_000_000, help=f"vectors, at least {LEAST_ITEMS:,}")
    made.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    made.add_argument("--out", type=Path, default=OUT)
    made.add_argument("--plot", type=Path, default=None, help=f"where the plot goes, for example {PLOT}")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
