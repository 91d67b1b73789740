"""The batch job: `python -m jobs.batch aggregates|training-set --home …`, over the whole event log, once.

`aggregates` computes by the very functions of the stream what is in it, events included that came too late for it.
`training-set` joins to every impression what was known then, by Spark or by DuckDB. The log is what the streaming job
wrote (`--from stream`), or the home's own (`--from log`).
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import aggregates, training_set
from jobs.event_files import copied, finished
from jobs.parse import EVENT_TYPES
from jobs.program import ended, home_folder, moment, talkative
from jobs.session import LOCAL, started
from jobs.training_set import TrainingSet
from winnow.errors import FailedPrecondition

AGGREGATES, TRAINING_SET = "aggregates", "training-set"
SPARK, DUCKDB = "spark", "duckdb"
STREAM, LOG = "stream", "log"

logger = logging.getLogger("winnow.batch")


def tables(events: DataFrame, at: float) -> dict[str, DataFrame]:
    """Every aggregate of the log; `at` (seconds since 1970) is the moment that `recent` is of."""
    once = aggregates.deduplicated(events).persist()
    panes, sessions = aggregates.panes(once).persist(), aggregates.sessions(once).persist()
    return {
        "panes": panes,
        "item_stats": aggregates.item_stats(panes, at),
        "last_acts": aggregates.last_acts(once),
        "sessions": sessions,
        "pairs": aggregates.pairs(sessions),
    }


def events_in(spark: SparkSession, folder: str) -> DataFrame:
    return spark.read.schema(EVENT_TYPES).parquet(folder)


def until(events: DataFrame, at: float) -> DataFrame:
    """The events that had happened by then."""
    return events.where(F.unix_micros("occurred_at") <= training_set.micros(at))


def aggregate(spark: SparkSession, files: Path, out: Path, at: float) -> None:
    """Write every table of aggregates, each replaced as a whole."""
    every = tables(until(events_in(spark, str(files)), at), at)
    for n, (name, rows) in enumerate(every.items(), 1):
        before = time.monotonic()
        with replaced(out / name) as folder:
            rows.write.parquet(str(folder))
        logger.info("%d of %d: %s written in %.1f s", n, len(every), out / name, time.monotonic() - before)


def build(engine: str, files: Path, out: Path, wanted: TrainingSet, master: str) -> None:
    """Write the training set by the engine asked for, in the place of an older one."""
    before = time.monotonic()
    with replaced(out / TRAINING_SET) as folder:
        if engine == DUCKDB:
            rows = training_set.on_duckdb(files, wanted)
            folder.mkdir()
            pq.write_table(rows, folder / "part-0.parquet")
        else:
            with started("winnow-training-set", master=master) as spark:
                training_set.on_spark(events_in(spark, str(files)), wanted).write.parquet(str(folder))
    logger.info("%s written by %s in %.1f s", out / TRAINING_SET, engine, time.monotonic() - before)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A folder to be written, which takes the place of `folder` when that has succeeded, and not before."""
    new, old = (folder.with_name(f".{folder.name}.{age}") for age in ("new", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    yield new
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def event_files(home: Path, source: str) -> Path:
    """The folder of the events to read, copied out of the home's log first where that is asked for.

    FailedPrecondition when it holds none.
    """
    files = home / "spark" / ("events" if source == STREAM else "log")
    if source == LOG:
        logger.info("%d events in the log", copied(home, files))
    elif not finished(files):
        raise FailedPrecondition(f"{files}: the streaming job has written nothing yet; --from log reads the home's log")
    return files


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m jobs.batch",
        description="Aggregates and training sets of the whole log, into the home's spark/batch.",
    )
    parser.add_argument("job", choices=(AGGREGATES, TRAINING_SET))
    parser.add_argument("--home", required=True, type=home_folder)
    parser.add_argument("--from", dest="source", choices=(STREAM, LOG), default=LOG, help=f"whose events ({LOG})")
    parser.add_argument("--engine", choices=(SPARK, DUCKDB), default=SPARK, help=f"of the training set ({SPARK})")
    parser.add_argument(
        "--until",
        type=moment,
        default=time.time(),
        help="nothing later is read: 2026-01-31T12:00:00Z, or seconds (now)",
    )
    parser.add_argument("--positive-value", type=float, default=4.0, help="a rating from here on is a conversion (4)")
    parser.add_argument("--master", default=LOCAL, help=f"where spark-submit does not say ({LOCAL})")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    said = arguments(words)
    talkative()
    files, out = event_files(said.home, said.source), said.home / "spark" / "batch"
    if said.job == AGGREGATES:
        with started("winnow-aggregates", master=said.master) as spark:
            aggregate(spark, files, out, said.until)
    else:
        build(said.engine, files, out, TrainingSet(said.until, positive_value=said.positive_value), said.master)
    return 0


if __name__ == "__main__":
    ended(main)
