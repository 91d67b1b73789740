"""One step on one world, in a process of its own, so that its peak memory is its own: `python -m bench.scale.steps STEP FOLDER`.

`FOLDER` holds the world as anybody's data set would lie there (`source/`) and its home (`home/`). The last line of the
output is what was measured, as JSON. Worlds are generated, and so are the vectors that are searched: clustered, as trained ones
are. No figure on quality may come from here.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from training.dataset import Dataset
    from training.split import Split
    from winnow.types import Floats

DIM = 128  # of item vectors
STATE = 640  # float32 numbers of an item that the ranker gathers: eight vectors of 64 and a hidden layer of 128
PER_CLUSTER = 50  # items
SPREAD = 0.6  # of an item around its cluster, both of length 1
CANDIDATES, PEOPLE, REQUESTS = 500, 500, 200
TRAINED_STEPS, WARM_STEPS = 12, 3
BLOCK = 65_536


@dataclass
class Measured:
    """Seconds of the timed parts, wall and CPU; `figures` are what else a step has to say."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu


def world(folder: Path, measured: Measured) -> None:
    """The world that the folder's name says, as Parquet files: nobody's work, and measured only in passing."""
    from bench.scale.worlds import named, written

    with measured.timed():
        written(named(folder.name), folder)


def ingest(folder: Path, measured: Measured) -> None:
    """From Parquet files to a home."""
    from training.ingest import ingest as read

    with measured.timed():
        summary = read(str(folder / "source"), folder / "home")
    measured.figures |= {"events": summary.events, "items": summary.items, "users": summary.users}


def load(folder: Path, measured: Measured) -> None:
    """From a home to the columns that training reads."""
    with measured.timed():
        loaded(folder)


def features(folder: Path, measured: Measured) -> None:
    """Vocabularies, every item and person encoded, acts laid out as sequences; the data set is there already."""
    from training.sequences import Sequences, Values, person_facts
    from training.train_retrieval import schemas_of
    from winnow.features import ItemView

    dataset, parts = loaded(folder)
    with measured.timed():
        items, people = schemas_of(dataset, parts)
        items.encode([ItemView(item) for item in dataset.items])
        facts = person_facts(dataset, people)
        Sequences.of(dataset, people, facts, Values.fit(dataset.acts.value[parts.train])).restricted(parts.train)


def train(folder: Path, measured: Measured) -> None:
    """A step of the towers, by the quick preset's sizes: the time of a step is the figure, its first ones left out."""
    from training.train_retrieval import fit_towers, preset

    dataset, parts = loaded(folder)
    nobody = replace(parts, calibrate=np.zeros_like(parts.calibrate))  # nothing to measure after the epoch
    settings = preset("quick")

    def run(steps: int) -> None:
        loop = replace(settings.loop, epochs=1, most_steps=steps)
        history = fit_towers(dataset, nobody, replace(settings, loop=loop), None).history
        measured.figures[f"after_{steps}_s"] = history.seconds

    run(WARM_STEPS)
    cpu = time.process_time()
    run(WARM_STEPS + TRAINED_STEPS)
    measured.cpu_s = (time.process_time() - cpu) / (WARM_STEPS + TRAINED_STEPS)
    took = measured.figures.pop(f"after_{WARM_STEPS + TRAINED_STEPS}_s") - measured.figures.pop(f"after_{WARM_STEPS}_s")
    measured.seconds = max(took, 0.0) / TRAINED_STEPS


def index(folder: Path, measured: Measured) -> None:
    """The vector index over the catalogue, its number of probes chosen and its recall measured, as in a bundle."""
    from training.vector_index import write_index

    vectors, people = clustered(items_of(folder), np.random.default_rng(1))
    with measured.timed():
        about = write_index(folder, vectors, people)
    measured.figures |= {"recall_at_100": about["recall_at_100"], "bytes_per_item": about["bytes_per_item"]}
    measured.figures["exact"] = float(about["kind"] == "flat")


def request(folder: Path, measured: Measured) -> None:
    """The parts of a request that meet the whole catalogue: search for 500, their ids, their rows, their states. Of a
    whole request over a served catalogue `make bench` tells."""
    import faiss

    faiss.omp_set_num_threads(1)
    n, rng = items_of(folder), np.random.default_rng(1)
    _, people = clustered(n, rng)
    found = faiss.read_index(str(folder / "index.faiss"))
    ids = np.array([f"i{row}" for row in range(n)], np.object_)
    row_of = {item_id: row for row, item_id in enumerate(ids)}
    states = np.empty((n, STATE), np.float32)
    for start in range(0, n, BLOCK):
        states[start : start + BLOCK] = rng.random((min(BLOCK, n - start), STATE), np.float32)
    most = min(CANDIDATES, n)

    def ask(k: int) -> Floats:
        places = found.search(people[k % PEOPLE][None], most)[1][0]
        rows = np.fromiter(map(row_of.__getitem__, ids[places[places >= 0]]), np.int64)
        return states[rows]

    for k in range(PEOPLE - REQUESTS, PEOPLE):
        ask(k)
    with measured.timed():
        for k in range(REQUESTS):
            ask(k)
    measured.seconds /= REQUESTS
    measured.cpu_s /= REQUESTS


STEPS: dict[str, Callable[[Path, Measured], None]] = {
    "world": world,
    "ingest": ingest,
    "load": load,
    "features": features,
    "train": train,
    "index": index,
    "request": request,
}


def warm() -> None:
    """Have everything imported that ingesting and loading import on the way."""
    from training.dataset import load as read
    from training.ingest import ingest as write

    with TemporaryDirectory() as scratch:
        write("generated:50,10,200", Path(scratch) / "home")
        read(Path(scratch) / "home")


def loaded(folder: Path) -> tuple[Dataset, Split]:
    from training.dataset import load as read
    from training.split import split

    dataset = read(folder / "home")
    return dataset, split(dataset, "serve")


def items_of(folder: Path) -> int:
    return int(json.loads((folder / "world.json").read_text(encoding="utf-8"))["items"])


def clustered(n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(n, 128) item vectors around n / 50 centres and (500, 128) people near some of them, all of length 1."""
    centres = unit(rng.standard_normal((max(n // PER_CLUSTER, 1), DIM), np.float32))
    vectors = np.empty((n, DIM), np.float32)
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        noise = unit(rng.standard_normal((len(rows), DIM), np.float32))
        vectors[rows] = unit(centres[rows * len(centres) // n] + np.float32(SPREAD) * noise)
    chosen = np.random.default_rng(2)
    near = centres[chosen.integers(0, len(centres), PEOPLE)]
    return vectors, unit(near + np.float32(SPREAD) * unit(chosen.standard_normal((PEOPLE, DIM), np.float32)))


def unit(vectors: Floats) -> Floats:
    shortened: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return shortened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    measured = Measured()
    if chosen.step in ("ingest", "load"):
        warm()
    STEPS[chosen.step](chosen.folder, measured)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"seconds": measured.seconds, "cpu_s": measured.cpu_s, "peak_mb": peak_mb, **measured.figures}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
