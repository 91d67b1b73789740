"""The streaming job: `python -m jobs.stream --bootstrap … --home … --redis …`, until SIGTERM.

A query that ends by an error — Kafka or Redis away, a worker lost — is started again from its checkpoint after a pause
that grows; nothing is lost by that and nothing counts twice. SIGTERM lets running batches end; a batch that takes too
long is cut off, and is done again at the next start.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, start_http_server
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from jobs.definitions import DEFAULT_LATENESS_S
from jobs.program import above, brokers, ended, redis_url, root, talkative
from jobs.progress import Metrics, line
from jobs.queries import QUERIES, TOPIC, Query, Settings, start
from jobs.session import LOCAL, reason, session
from winnow.errors import FailedPrecondition, WinnowError
from winnow.serving.trace_settings import TraceSettings, recorded

POLL_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
STOP_S = 20.0
REDIS = "WINNOW_REDIS_URL"

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


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m jobs.stream", description="Aggregates of events, while they come, until SIGTERM."
    )
    parser.add_argument("--bootstrap", required=True, type=brokers, help="Kafka brokers, host:port,…")
    parser.add_argument(
        "--home", required=True, type=root, help="results and checkpoints lie in its spark/; may be an s3a:// address"
    )
    parser.add_argument(
        "--redis",
        default=os.environ.get(REDIS),
        required=REDIS not in os.environ,
        type=redis_url,
        help=f"redis://… of the aggregates (or {REDIS}: others do not see it in the list of processes)",
    )
    parser.add_argument("--topic", default=TOPIC, help=f"of the events ({TOPIC})")
    parser.add_argument("--every-s", type=above(0), default=2.0, help="seconds between batches (2)")
    parser.add_argument("--at-most", type=above(0, int), default=20_000, help="records of one batch (20000)")
    parser.add_argument(
        "--lateness-s",
        type=above(0, int),
        default=DEFAULT_LATENESS_S,
        help=f"events later than that count in the batch only ({DEFAULT_LATENESS_S})",
    )
    parser.add_argument("--metrics-port", type=int, default=0, help="Prometheus metrics; 0: none (0)")
    parser.add_argument("--metrics-host", default="0.0.0.0", help="where they listen (0.0.0.0: everywhere)")
    parser.add_argument(
        "--shuffle-partitions", type=above(0, int), default=2, help="parts of a query's state; fixed for ever (2)"
    )
    parser.add_argument("--master", default=LOCAL, help=f"where spark-submit does not say ({LOCAL})")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    said = arguments(words)
    talkative()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    settings = Settings(
        said.bootstrap, f"{said.home}/spark", said.redis, said.topic, said.every_s, said.at_most, said.lateness_s
    )
    registry = CollectorRegistry()
    if said.metrics_port:
        publish(registry, said.metrics_port, said.metrics_host)
    logger.info("reading %s at %s into %s", settings.topic, settings.bootstrap, settings.root)
    with recorded(TraceSettings(), "stream"):
        spark = session("winnow-stream", master=said.master, shuffle_partitions=said.shuffle_partitions, small=True)
        try:
            run(spark, settings, Metrics(registry), stopped)
        finally:
            spark.stop()
    return 0


def publish(registry: CollectorRegistry, port: int, host: str) -> None:
    """FailedPrecondition: another program has the port."""
    try:
        start_http_server(port, host, registry=registry)
    except (OSError, OverflowError) as taken:
        raise FailedPrecondition(f"port {port} of the metrics: {taken}") from taken


if __name__ == "__main__":
    ended(main)
