"""The batch job: `python -m jobs.batch aggregates|training-set --home …`, over the whole event log, once.

`aggregates` computes by the very functions of the stream what is in it, events included that came too late for it.
`training-set` joins to every impression what was known then, by Spark or by DuckDB. The log is what the streaming job
wrote (`--from stream`), or the home's own (`--from log`).
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from jobs import aggregates, training_set
from jobs.event_files import copied
from jobs.parse import EVENT_TYPES
from jobs.session import LOCAL, session
from jobs.training_set import TrainingSet

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


def aggregate(spark: SparkSession, files: str, out: str, at: float) -> None:
    """Write every table of aggregates, each replaced as a whole."""
    for name, rows in tables(events_in(spark, files), at).items():
        rows.write.mode("overwrite").parquet(f"{out}/{name}")
        logger.info("%s/%s written", out, name)


def build(engine: str, files: str, out: str, wanted: TrainingSet, master: str) -> None:
    """Write the training set by the engine asked for."""
    if engine == "duckdb":
        Path(out).mkdir(parents=True, exist_ok=True)
        pq.write_table(training_set.on_duckdb(Path(files), wanted), f"{out}/training-set.parquet")
    else:
        spark = session("winnow-training-set", master=master)
        training_set.on_spark(events_in(spark, files), wanted).write.mode("overwrite").parquet(f"{out}/training-set")
    logger.info("%s written", out)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("jobs.batch", description="Aggregates and training sets of the whole log.")
    parser.add_argument("job", choices=("aggregates", "training-set"))
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--from", dest="source", choices=("stream", "log"), default="log")
    parser.add_argument("--engine", choices=("spark", "duckdb"), default="spark", help="of the training set")
    parser.add_argument("--until", type=float, default=time.time(), help="seconds since 1970; nothing later is read")
    parser.add_argument("--positive-value", type=float, default=4.0, help="a rating from here on is a conversion")
    parser.add_argument("--master", default=LOCAL, help="where spark-submit does not say")
    return parser.parse_args(words)


def main(words: Sequence[str] = ()) -> None:
    said = arguments(words or sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    root: Path = said.home.absolute() / "spark"
    files = root / ("events" if said.source == "stream" else "log")
    if said.source == "log":
        logger.info("%d events in the log", copied(said.home, files))
    if said.job == "aggregates":
        spark = session("winnow-aggregates", master=said.master)
        aggregate(spark, str(files), str(root / "batch"), said.until)
    else:
        build(
            said.engine,
            str(files),
            str(root / "batch"),
            TrainingSet(said.until, positive_value=said.positive_value),
            said.master,
        )


if __name__ == "__main__":
    main()
