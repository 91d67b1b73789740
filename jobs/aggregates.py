"""What is computed from events, once: functions from DataFrame to DataFrame that run in a batch and in a stream alike.

The numbers behind them are those of `jobs.definitions`. Knows neither where events come from nor where results go.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.definitions import (
    ACTS,
    COUNTED,
    DEFAULT_LATENESS_S,
    HALF_LIFE_S,
    ITEM,
    LANDMARK_S,
    LAST_N,
    LOG_ORDER,
    MAX_BASKET,
    PANES,
    SESSION_GAP_S,
    STATS_HOP_S,
    USER,
    recent_factor,
)
from winnow.types import EventType


def person() -> Column:
    """Who acted: `u:` and the user, or `s:` and the session of nobody known."""
    user = F.when(F.col("user_id").isNotNull(), F.concat(F.lit("u:"), F.col("user_id")))
    return F.coalesce(user, F.concat(F.lit("s:"), F.col("session_id")))


def deduplicated(events: DataFrame, lateness_s: int = DEFAULT_LATENESS_S) -> DataFrame:
    """Each `event_id` once. In a batch the first in the log; in a stream the first to come, remembered until the
    watermark has passed it, after which its repetition is too late to count."""
    if events.isStreaming:
        late = events.withWatermark("occurred_at", f"{lateness_s} seconds")
        return late.dropDuplicatesWithinWatermark(["event_id"])
    first = Window.partitionBy("event_id").orderBy(*LOG_ORDER)
    return events.withColumn("nth", F.row_number().over(first)).where("nth = 1").drop("nth")


def panes(events: DataFrame) -> DataFrame:
    """Counts per person and per item and pane. Columns: `of`, `key`, `hop_s`, `start` (seconds since 1970), a count per
    event type, and over the acts their `count`, forward-decayed `weight`, and sum and number of ratings (`value_sum`, `rated`).
    """
    sides = F.array(*(side(of, hop_s) for of, hops in PANES.items() for hop_s in hops))
    spread = events.select(
        "occurred_at", "type", "value", weight().alias("weight"), F.explode(sides).alias("side")
    ).select("occurred_at", "type", "value", "weight", "side.*")
    # One width of window per query is what Spark's planner takes; the pane's own start is a key instead, and the window,
    # as wide as the widest pane, is there for its end: when the watermark passes it, the state of its panes is dropped.
    keys = (F.window("occurred_at", f"{STATS_HOP_S} seconds"), "of", "key", "hop_s", "start")
    return spread.groupBy(*keys).agg(*sums()).drop("window")


def side(of: str, hop_s: int) -> Column:
    """Where one event counts: whom it counts for, and the pane it falls into."""
    micros, width = F.unix_micros("occurred_at"), hop_s * 1_000_000
    start = ((micros - F.pmod(micros, F.lit(width))) / 1_000_000).cast("bigint")
    key = person() if of == USER else F.col("item_id")
    return F.struct(F.lit(of).alias("of"), key.alias("key"), F.lit(hop_s).alias("hop_s"), start.alias("start"))


def sums() -> list[Column]:
    act, rated = F.col("type").isin(*ACTS), F.col("type") == EventType.RATING.value
    counts = [F.count(F.when(F.col("type") == kind, 1)).alias(name) for kind, name in COUNTED.items()]
    return [
        *counts,
        F.count(F.when(act, 1)).alias("count"),
        F.coalesce(F.sum(F.when(act, F.col("weight"))), F.lit(0.0)).alias("weight"),
        F.coalesce(F.sum(F.when(rated, F.col("value"))), F.lit(0.0)).alias("value_sum"),
        F.count(F.when(rated, F.col("value"))).alias("rated"),
    ]


def weight() -> Column:
    """The forward-decayed weight of an act."""
    at = F.unix_micros("occurred_at") / 1e6
    return F.pow(F.lit(2.0), (at - LANDMARK_S) / HALF_LIFE_S)


def item_stats(panes: DataFrame, at: float) -> DataFrame:
    """`winnow.features.ItemStats` of each item, from panes of `STATS_HOP_S` that end by `at`."""
    days = panes.where((F.col("of") == ITEM) & (F.col("hop_s") == STATS_HOP_S))
    total = days.groupBy(F.col("key").alias("item_id")).agg(
        F.sum("count").alias("count"),
        (F.sum("weight") * recent_factor(at)).alias("recent"),
        F.sum("value_sum").alias("value_sum"),
        F.sum("rated").alias("rated"),
    )
    mean = F.when(F.col("rated") > 0, F.col("value_sum") / F.col("rated")).otherwise(F.lit(float("nan")))
    return total.select("item_id", F.col("count").cast("double").alias("count"), "recent", mean.alias("mean_value"))


def acts(events: DataFrame) -> DataFrame:
    return events.where(F.col("type").isin(*ACTS)).withColumn("person", person())


def last_acts(events: DataFrame, n: int = LAST_N) -> DataFrame:
    """The newest `n` acts of each person, ordered by time and then event id. The newest of two such lists together are
    the newest of all, so lists of batches may be merged in any order, and twice."""
    newest = Window.partitionBy("person").orderBy(F.desc("occurred_at"), F.desc("event_id"))
    ranked = acts(events).withColumn("nth", F.row_number().over(newest)).where(F.col("nth") <= n)
    at = F.unix_micros("occurred_at").alias("at_us")
    return ranked.select("person", "event_id", "item_id", "type", "value", at, "nth")


def sessions(events: DataFrame, gap_s: int = SESSION_GAP_S) -> DataFrame:
    """Acts of one person with no gap of `gap_s` between them. Columns: `person`, `start_us`, `end_us` (of the last act),
    `count`, `purchases`, `basket` (distinct items bought, by name). In a stream a session comes once, when it is over.
    """
    bought = F.col("type") == EventType.PURCHASE.value
    grouped = (
        acts(events)
        .groupBy("person", F.session_window("occurred_at", f"{gap_s} seconds"))
        .agg(
            F.min(F.unix_micros("occurred_at")).alias("start_us"),
            F.max(F.unix_micros("occurred_at")).alias("end_us"),
            F.count("*").alias("count"),
            F.count(F.when(bought, 1)).alias("purchases"),
            F.sort_array(F.collect_set(F.when(bought, F.col("item_id")))).alias("basket"),
        )
    )
    return grouped.drop("session_window")


def pairs(sessions: DataFrame) -> DataFrame:
    """How many sessions bought both: a row for (`item_id`, `other_id`) and one for the other way round, with `count`.
    Of a basket larger than `MAX_BASKET` the first by name count."""
    basket = F.slice("basket", 1, MAX_BASKET)
    one = sessions.where(F.size("basket") > 1).select(basket.alias("basket"))
    two = one.select(F.explode("basket").alias("item_id"), "basket").select(
        "item_id", F.explode("basket").alias("other_id")
    )
    return two.where("item_id != other_id").groupBy("item_id", "other_id").agg(F.count("*").alias("count"))
