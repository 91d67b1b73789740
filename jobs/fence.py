"""Which batch of which run of a query writes: an order in which a store can refuse what comes late or twice.

Spark numbers the batches of a checkpoint 0, 1, …, and a checkpoint that is made anew starts again at 0. So a fence is
the checkpoint's own birth, then the batch. Its text sorts like it, and names folders.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """`epoch_ms` is when the checkpoint was made."""

    epoch_ms: int
    batch: int

    def __str__(self) -> str:
        return f"{self.epoch_ms:013d}-{self.batch:010d}"


def epoch(spark: SparkSession, checkpoint: str) -> int:
    """When this checkpoint was made, in milliseconds since 1970; noted beside it at its first start."""
    path = f"{checkpoint}/epoch"
    try:
        noted = [int(row.value) for row in spark.read.text(path).collect() if row.value.isdigit()]
    except AnalysisException as absent:
        if absent.getCondition() != "PATH_NOT_FOUND":
            raise
        noted = []
    if noted:
        return noted[0]
    now = time.time_ns() // 1_000_000
    spark.createDataFrame([(str(now),)], "value string").coalesce(1).write.mode("overwrite").text(path)
    return now
