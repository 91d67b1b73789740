"""The streaming job: `python -m jobs.stream --bootstrap … --home … --redis …`, until SIGTERM.

A query that ends by an error — Kafka or Redis away, a worker lost — is started again from its checkpoint after a pause
that grows; nothing is lost by that and nothing counts twice. SIGTERM lets running batches end; a batch that takes too
long is cut off, and is done again at the next start.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from jobs.progress import Metrics, line
from jobs.queries import QUERIES, TOPIC, Query, Settings, start
from jobs.session import LOCAL, session
from winnow.errors import WinnowError

POLL_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
STOP_S = 20.0
REASON = 300  # characters of an error in the log

logger = logging.getLogger("winnow.stream")


@dataclass
class Supervised:
    """One query, its present run, and how it went lately."""

    query: Query
    run: StreamingQuery | None = None
    told: str = ""  # when the newest report was made
    pause_s: float = FIRST_PAUSE_S
    again_at: float = field(default=0.0)

    def tend(self, spark: SparkSession, settings: Settings, metrics: Metrics) -> None:
        """Start what does not run, unless it ended a moment ago; report what it did since."""
        if self.run is None:
            if time.monotonic() >= self.again_at:
                self.begin(spark, settings, metrics)
            return
        self.report(metrics)
        if not self.run.isActive:
            self.failed(str(self.run.exception() or "it ended"), metrics)

    def begin(self, spark: SparkSession, settings: Settings, metrics: Metrics) -> None:
        try:
            self.run = start(spark, self.query, settings)
            metrics.running.labels(self.query.name).set(1)
        except (PySparkException, WinnowError) as wrong:
            self.failed(str(wrong), metrics)

    def report(self, metrics: Metrics) -> None:
        assert self.run is not None
        for progress in self.run.recentProgress:
            report = json.loads(progress.json)
            if report["timestamp"] <= self.told:
                continue
            self.told = report["timestamp"]
            self.pause_s = FIRST_PAUSE_S
            metrics.count(report)
            if report["numInputRows"]:
                logger.info(line(report))

    def failed(self, why: str, metrics: Metrics) -> None:
        metrics.failures.labels(self.query.name).inc()
        metrics.running.labels(self.query.name).set(0)
        self.run = None
        self.again_at = time.monotonic() + self.pause_s
        logger.warning("%s: again in %g s: %s", self.query.name, self.pause_s, reason(why))
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)


def run(spark: SparkSession, settings: Settings, metrics: Metrics, stopped: threading.Event) -> None:
    """All queries until `stopped` is set."""
    every = [Supervised(query) for query in QUERIES]
    while not stopped.wait(POLL_S):
        for one in every:
            one.tend(spark, settings, metrics)
    until = time.monotonic() + STOP_S
    for one in every:
        if one.run is not None:
            end(one.run, until)
            one.report(metrics)


def end(query: StreamingQuery, until: float) -> None:
    """Between two batches where that comes by `until`, else at once."""
    while query.isActive and query.status["isTriggerActive"] and time.monotonic() < until:
        time.sleep(0.05)
    query.stop()


def reason(why: str) -> str:
    """The line of an error that says most: our own error where there is one in the traces of three processes."""
    lines = [line.strip() for line in why.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("winnow.errors.")]
    return (ours or lines or [why])[0][:REASON]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("jobs.stream", description="Aggregates of events, while they come.")
    parser.add_argument("--bootstrap", required=True, help="Kafka brokers, host:port,…")
    parser.add_argument(
        "--home", required=True, help="the home; results and checkpoints lie in its spark/ (or an s3a:// address)"
    )
    parser.add_argument("--redis", required=True, help="redis://… of the aggregates")
    parser.add_argument("--topic", default=TOPIC)
    parser.add_argument("--every-s", type=float, default=2.0, help="seconds between batches")
    parser.add_argument("--at-most", type=int, default=20_000, help="records of one batch")
    parser.add_argument("--lateness-s", type=int, default=3_600, help="events later than that count in the batch only")
    parser.add_argument("--metrics-port", type=int, default=0, help="Prometheus metrics; 0: none")
    parser.add_argument("--shuffle-partitions", type=int, default=2, help="parts of a query's state; fixed for ever")
    parser.add_argument("--master", default=LOCAL, help="where spark-submit does not say")
    return parser.parse_args(words)


def main(words: Sequence[str] = ()) -> None:
    said = arguments(words or sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    home = said.home if "://" in said.home else str(Path(said.home).absolute())
    settings = Settings(
        said.bootstrap, f"{home}/spark", said.redis, said.topic, said.every_s, said.at_most, said.lateness_s
    )
    registry = CollectorRegistry()
    if said.metrics_port:
        start_http_server(said.metrics_port, registry=registry)
    spark = session("winnow-stream", master=said.master, shuffle_partitions=said.shuffle_partitions, small=True)
    try:
        run(spark, settings, Metrics(registry), stopped)
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
