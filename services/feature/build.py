"""Builds the feature service from a home: reads both logs, once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from services.feature.hot import Hot, WriteThrough
from services.feature.hot import Nowhere as NoRedis
from services.feature.hot_rows import Facts
from services.feature.ids import KnownIds
from services.feature.items import ItemLog
from services.feature.onward import Forwarding, Key, Nowhere, Value
from services.feature.service import FeatureService
from services.feature.settings import Settings
from services.feature.store import People
from winnow import segments
from winnow.acts import COLUMNS, journal
from winnow.canonical import EVENTS, ITEMS, USERS
from winnow.eventlog import Log
from winnow.home import check_complete, events_folder, hot_log_file, items_folder, users_folder
from winnow.hot_store import HotStore
from winnow.messages import event_key, event_value, item_key, item_value
from winnow.serving.backends import KAFKA, REDIS, expect
from winnow.serving.telemetry import (
    ACKNOWLEDGED,
    FORWARDED,
    HOT_WRITES,
    ITEM_CHANGES,
    ITEM_LOG_POSITION,
    NEWEST_EVENT,
    begin,
)
from winnow.topics import EVENTS as EVENT_TOPIC
from winnow.topics import ITEMS as ITEM_TOPIC
from winnow.topics import Topic

MS = 1e-3


def build(settings: Settings) -> FeatureService:
    """FailedPrecondition: an ingestion was interrupted, another process writes this home, or a log is damaged."""
    check_complete(settings.home)
    events = Log(events_folder(settings.home), EVENTS, segment_bytes=settings.segment_bytes)
    items = Log(items_folder(settings.home), ITEMS, segment_bytes=settings.segment_bytes)
    happened = Happened(events.parts((*COLUMNS, "event_id")))
    people = People(journal(happened), traits(settings.home))
    catalogue = ItemLog(items.whole())
    watch(settings, people, catalogue)
    return FeatureService(
        events,
        items,
        people,
        catalogue,
        KnownIds(happened.ids),
        hot=hot_states(settings, people, catalogue),
        events_onward=onward(settings, events, EVENT_TOPIC, event_key, event_value, settings.forward_imports),
        items_onward=onward(settings, items, ITEM_TOPIC, item_key, item_value, True),
        onward_s=settings.forward_wait_ms * MS,
    )


class Happened:
    """A log in parts, read once: the ids of its events are kept as they pass."""

    def __init__(self, parts: Iterable[pa.Table]) -> None:
        self._parts = parts
        self._ids: list[pa.ChunkedArray] = []

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._parts:
            self._ids.append(table["event_id"])
            yield table

    @property
    def ids(self) -> pa.ChunkedArray:
        chunks = [chunk for column in self._ids for chunk in column.chunks]
        return pa.chunked_array(chunks, pa.string())


def watch(settings: Settings, people: People, catalogue: ItemLog) -> None:
    """Show how new all this is, and what may fail from now on. A client's clock may be ahead, the metric is not."""
    NEWEST_EVENT.set_function(lambda: min(people.newest_at, time.time()))
    ITEM_LOG_POSITION.set_function(lambda: catalogue.watermark)
    begin(ACKNOWLEDGED, by=("disk", "broker") if settings.kafka_bootstrap else ("disk",))
    if settings.redis_url:
        begin(HOT_WRITES, outcome=("written", "late", "away"))
        begin(ITEM_CHANGES, outcome=("told", "away"))
        expect(REDIS, ["write_states", "tell_items"])
    if settings.kafka_bootstrap:
        begin(FORWARDED, topic=(EVENT_TOPIC.name, ITEM_TOPIC.name))
        expect(KAFKA, ["connect", "produce"])


def onward(settings: Settings, log: Log, topic: Topic, key: Key, value: Value, imports: bool) -> Forwarding:
    """Where a log goes besides the disk."""
    if not settings.kafka_bootstrap:
        return Nowhere()
    from services.feature.forward import Forwarder  # without a broker no client of one is needed

    return Forwarder(
        log, topic, key, value, settings.kafka_bootstrap, replicas=settings.kafka_replicas, imports=imports
    )


def hot_states(settings: Settings, people: People, catalogue: ItemLog) -> Hot:
    """Where people's states go besides this process."""
    if not settings.redis_url:
        return NoRedis()
    timeout_s = settings.redis_timeout_ms * MS
    store = HotStore(settings.redis_url, timeout_s)
    return WriteThrough(people, Facts(catalogue.without_image), store, hot_log_file(settings.home), timeout_s)


def traits(home: Path) -> dict[str, dict[str, str]]:
    """Traits by user id, as imported."""
    table: pa.Table = segments.whole(users_folder(home), USERS)
    pairs = zip(table["user_id"].to_pylist(), table["traits"].to_pylist(), strict=True)
    return {user_id: dict(own or ()) for user_id, own in pairs}
