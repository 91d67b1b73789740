"""Records of the event topic to columns of events, and the ones that cannot be read to dead letters with a reason.

One format: JSON that says its `schema`, times as ISO 8601 with a zone or as seconds since 1970. What a newer producer
adds is ignored; a message of a newer schema is not guessed at. The checks are those of `winnow.types.Event`.
"""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from winnow.types import LATEST, MAX_ID, EventType

SCHEMA = 1
FUTURE_S = 3_600  # a clock may be ahead of the broker's by that much
BODY = (
    "schema int, log_position bigint, event_id string, type string, item_id string, occurred_at string,"
    " user_id string, session_id string, value double, quantity bigint, request_id string, position int,"
    " context map<string,string>, damaged string"
)
ISO = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$"
NUMBER = r"^\d+(\.\d+)?([eE]\+?\d+)?$"
EVENT_COLUMNS = (
    "event_id",
    "type",
    "item_id",
    "occurred_at",
    "user_id",
    "session_id",
    "value",
    "quantity",
    "request_id",
    "position",
    "context",
    "log_position",
    "topic",
    "topic_partition",
    "topic_offset",
)
"""Of `winnow.canonical.EVENTS`, then where the event stands in the log (0: unknown) and in the topic."""
EVENT_TYPES = (
    "event_id string, type string, item_id string, occurred_at timestamp, user_id string, session_id string,"
    " value double, quantity bigint, request_id string, position int, context map<string,string>,"
    " log_position bigint, topic string, topic_partition int, topic_offset bigint"
)


class Parsed(NamedTuple):
    """`events` has `EVENT_COLUMNS`; `dead` says reason, topic, partition, offset, timestamp, key and value."""

    events: DataFrame
    dead: DataFrame


def parse(records: DataFrame) -> Parsed:
    """Split records of `jobs.source.COLUMNS`; every record is in exactly one of the two."""
    judged = judge(records)
    return Parsed(events_of(judged), dead_of(judged))


def judge(records: DataFrame) -> DataFrame:
    """The records with their `body` and the `reason` why it is no event, "" where it is one."""
    body = F.from_json(
        F.col("value").cast("string"), BODY, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "damaged"}
    )
    opened = records.withColumn("body", body).withColumn("at", moment(F.col("body.occurred_at")))
    return opened.withColumn("reason", reason())


def reason() -> Column:
    """Why a body is no event: the first of the checks that it fails."""
    known = [kind.value for kind in EventType]
    checks = {
        "not-json": F.col("body").isNull() | F.try_parse_json(F.col("value").cast("string")).isNull(),
        "no-schema": F.coalesce(F.col("body.schema") < 1, F.lit(True)),
        "newer-schema": F.col("body.schema") > SCHEMA,
        "missing-id": F.coalesce(F.col("body.event_id") == "", F.lit(True)),
        "unknown-type": ~F.coalesce(F.col("body.type").isin(known), F.lit(False)),
        "invalid": invalid(),
        "future-time": F.col("at") > F.col("timestamp") + F.expr(f"make_dt_interval(0, 0, 0, {FUTURE_S})"),
    }
    said = F.lit("")
    for name, fails in reversed(checks.items()):
        said = F.when(fails, name).otherwise(said)
    return said


def invalid() -> Column:
    """A field of a wrong type, or what `Event` itself refuses."""
    body = {name: F.col(f"body.{name}") for name in ("item_id", "user_id", "session_id", "request_id", "event_id")}
    nobody = (F.coalesce(body["user_id"], F.lit("")) == "") & (F.coalesce(body["session_id"], F.lit("")) == "")
    too_long = [F.coalesce(F.length(column) > MAX_ID, F.lit(False)) for column in body.values()]
    value = F.col("body.value")
    unrated = (F.col("body.type") == EventType.RATING.value) & value.isNull()
    wild = F.coalesce(F.isnan(value) | (F.abs(value) > 1e9), F.lit(False))
    amount = ~F.coalesce(F.col("body.quantity"), F.lit(1)).between(1, 1_000_000)
    place = ~F.coalesce(F.col("body.position"), F.lit(1)).between(1, 10_000)
    no_item = F.coalesce(body["item_id"] == "", F.lit(True))
    wrong = (
        F.col("body.damaged").isNotNull() | no_item | nobody | F.col("at").isNull() | unrated | wild | amount | place
    )
    for one in too_long:
        wrong = wrong | one
    return wrong


def moment(text: Column) -> Column:
    """A time as ISO 8601 with its zone, or seconds since 1970; null for anything else, and outside 1970 … 2200."""
    seconds = F.when(text.rlike(NUMBER), F.expr("try_cast(body.occurred_at as double)"))
    sane = F.when(seconds < LATEST.timestamp(), seconds)
    iso = F.when(text.rlike(ISO), F.expr("try_cast(body.occurred_at as timestamp)"))
    at = F.coalesce(F.timestamp_micros(F.round(sane * 1e6).cast("bigint")), iso)
    return F.when(at.between(F.timestamp_seconds(F.lit(0)), F.timestamp_seconds(F.lit(LATEST.timestamp()))), at)


def events_of(judged: DataFrame) -> DataFrame:
    empty_is_null = {
        name: F.nullif(F.col(f"body.{name}"), F.lit("")) for name in ("user_id", "session_id", "request_id")
    }
    columns = {
        "occurred_at": F.col("at"),
        **empty_is_null,
        "quantity": F.coalesce(F.col("body.quantity"), F.lit(1)),
        "topic": F.col("topic"),
        "topic_partition": F.col("partition"),
        "topic_offset": F.col("offset"),
        "log_position": F.coalesce(F.col("body.log_position"), F.lit(0)),
    }
    chosen = [columns.get(name, F.col(f"body.{name}")).alias(name) for name in EVENT_COLUMNS]
    return judged.where("reason = ''").select(chosen)


def dead_of(judged: DataFrame) -> DataFrame:
    kept = ("reason", "topic", "partition", "offset", "timestamp", "key", "value")
    return judged.where("reason != ''").select(*kept)
