"""Rows into Parquet, each batch in a folder of its own that writing it again replaces.

`<root>/date=<day>/batch=<fence>/…`: by day first, so that readers skip days and retention deletes whole ones.
"""

from __future__ import annotations

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.fence import Fence

PLACE = ("date", "batch")


def write(rows: DataFrame, root: str, day: Column, fence: Fence, files: int = 1) -> None:
    """Replace what this batch wrote; `files` of one day and batch at most. No rows: nothing happens."""
    placed = rows.withColumn("date", F.to_date(day)).withColumn("batch", F.lit(str(fence)))
    writer = placed.coalesce(files).write.mode("overwrite").option("partitionOverwriteMode", "dynamic")
    writer.partitionBy(*PLACE).parquet(root)


def read(spark: SparkSession, root: str, columns: str) -> DataFrame:
    """All rows with `columns` (a schema), `date` and `batch`; none where nothing was written yet."""
    try:
        return spark.read.schema(f"{columns}, date date, batch string").parquet(root)
    except AnalysisException as absent:
        if absent.getCondition() != "PATH_NOT_FOUND":
            raise
        return spark.createDataFrame([], f"{columns}, date date, batch string")
