"""A Spark session with what every job of ours agrees on, and the one place that reads events from Kafka."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JError  # type: ignore[import-untyped]
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from jobs.source import FORMAT, KafkaSource
from winnow.errors import FailedPrecondition, WinnowError

LOCAL = "local[2]"
HOST = "127.0.0.1"
NATIVE = "kafka"
NO_JAR = "KAFKA_DATA_SOURCE_NOT_ENABLED"
SUBMITTED = "PYSPARK_GATEWAY_PORT"  # set by spark-submit, which knows the master
SMALL = {
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""For two cores: less to compile, fewer threads that compile and collect."""
ROOT = Path(__file__).parents[1]
REASON = 300  # characters of an error that is told


@contextmanager
def started(name: str, *, master: str = LOCAL) -> Iterator[SparkSession]:
    """A session for one piece of work, stopped behind it unless it was there before; Spark's errors become ours."""
    before = SparkSession.getActiveSession()
    spark = session(name, master=master)
    try:
        yield spark
    except (PySparkException, Py4JError) as wrong:
        raise WinnowError(f"Spark: {reason(str(wrong))}") from wrong
    finally:
        if before is None:
            spark.stop()


def session(
    name: str, *, master: str = LOCAL, shuffle_partitions: int = 2, memory: str = "1g", small: bool = False
) -> SparkSession:
    """A session in UTC; under spark-submit its master, memory and partitions count, not ours.

    `small`: rows come by the thousand, so that compiling what runs over them costs more than it saves.
    `shuffle_partitions` of a streaming query are fixed by its first start: its state lies in so many parts.
    """
    if SUBMITTED not in os.environ and shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise FailedPrecondition("Spark needs Java 17: apt-get install openjdk-17-jre-headless")
    builder = SparkSession.builder.appName(name)
    if SUBMITTED not in os.environ:
        own = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable, "SPARK_LOCAL_IP": HOST}
        os.environ.update(own)
        # A worker starts in whatever folder Spark runs in, and has to find this very code.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        builder = (
            builder.master(master)
            .config("spark.driver.memory", memory)
            .config("spark.driver.host", HOST)
            .config("spark.driver.bindAddress", HOST)
            .config("spark.sql.shuffle.partitions", str(shuffle_partitions))
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
        )
        for option, value in (SMALL if small else {}).items():
            builder = builder.config(option, value)
    spark = (
        builder.config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.sql.sources.partitionOverwriteMode", "dynamic")
        .config("spark.sql.streaming.metricsEnabled", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )
    spark.dataSource.register(KafkaSource)
    return spark


def read_events(
    spark: SparkSession, bootstrap: str, topic: str, *, at_most: int = 20_000, starting: str = "earliest"
) -> DataFrame:
    """The topic as a stream of `jobs.records.COLUMNS` and `HEADERS`, at most `at_most` records a batch, through Spark's
    own source where its jar is present and through ours elsewhere. Which of the two also decides whose checkpoint it is."""
    reader = (
        spark.readStream.format(NATIVE if native(spark) else FORMAT)
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", starting)
        .option("maxOffsetsPerTrigger", str(at_most))
        .option("failOnDataLoss", "true")
        .option("includeHeaders", "true")
    )
    return reader.load()


def native(spark: SparkSession) -> bool:
    """Whether Spark's own Kafka source can be loaded."""
    try:
        spark.readStream.format(NATIVE).option("kafka.bootstrap.servers", "x:1").option("subscribe", "x").load()
    except AnalysisException as absent:
        if absent.getCondition() != NO_JAR:
            raise
        return False
    return True


def reason(why: str) -> str:
    """The line of an error that says most: our own error where there is one in the traces of three processes."""
    lines = [line.strip() for line in why.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("winnow.errors.")]
    return (ours or lines or [why])[0][:REASON]
