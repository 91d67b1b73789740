"""Which batch of which run of a query writes: an order in which a store can refuse what comes late or twice.

Spark numbers the batches of a checkpoint 0, 1, …, and a checkpoint that is made anew starts again at 0. So a fence is
the checkpoint's own birth, then the batch. Its text sorts like it, and names folders.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """`epoch_ms` is when the checkpoint was made."""

    epoch_ms: int
    batch: int

    def __str__(self) -> str:
        return f"{self.epoch_ms:013d}-{self.batch:010d}"


def epoch(spark: SparkSession, checkpoint: str) -> int:
    """When this checkpoint was made, in milliseconds since 1970; noted in it at its first start.

    By Hadoop's own file systems: a checkpoint may lie wherever Spark can write.
    """
    jvm: Any = spark.sparkContext._jvm
    note, beside = (jvm.org.apache.hadoop.fs.Path(f"{checkpoint}/{name}") for name in ("epoch", "epoch.new"))
    files = note.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())
    if files.exists(note):
        return int(read(files, note))
    now = time.time_ns() // 1_000_000
    written = files.create(beside, True)
    written.writeBytes(str(now))
    written.close()
    files.rename(beside, note)
    return int(read(files, note))


def read(files: Any, path: Any) -> str:
    stream = files.open(path)
    try:
        return str(stream.readLine())
    finally:
        stream.close()
