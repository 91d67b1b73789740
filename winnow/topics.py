"""The topics of the platform, declared: whoever produces or consumes reads names, sizes and retention here, and what a
record is.

Partitions are never changed on a topic that exists: a key would move to another partition, and its records would lose
their order. Knows nothing of a client library; `winnow.kafka.create` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FOR_EVER = -1  # as a retention
MIB = 2**20

Headers = tuple[tuple[str, bytes], ...]
Offsets = Mapping[tuple[str, int], int]
"""Offsets by (topic, partition)."""


@dataclass(frozen=True, slots=True)
class Topic:
    """`compacted` keeps the newest record of every key for ever instead of all records for `retention_ms`."""

    name: str
    partitions: int
    retention_ms: int
    max_message_bytes: int = MIB
    compacted: bool = False

    def options(self, replicas: int) -> dict[str, str]:
        """The topic's settings in Kafka's words; a write counts once all but one of the replicas have it."""
        return {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": "-1" if self.compacted else str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
            "min.insync.replicas": str(max(1, replicas - 1)),
        }


@dataclass(frozen=True, slots=True)
class Record:
    """One message to send. Records of one key keep their order. Headers say what is not part of the value."""

    key: bytes
    value: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the broker put a record."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message received."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Headers = ()


EVENTS = Topic("winnow.events", 6, 7 * DAY_MS)
"""Every event, by user id (or session id where there is none)."""
ITEMS = Topic("winnow.items", 3, 7 * DAY_MS, compacted=True)
"""Every version of every item, by item id."""
DECISIONS = Topic("winnow.decisions", 6, 3 * DAY_MS, max_message_bytes=4 * MIB)
"""Every answer with what it was chosen from, by user id (or session id)."""
AUDIT = Topic("winnow.audit", 6, FOR_EVER)
"""Every record of the audit log, by the name of its chain (docs/adr/0014)."""
DEAD_LETTERS = Topic("winnow.dead-letters", 1, 30 * DAY_MS, max_message_bytes=5 * MIB)
"""What a consumer could not read, as it was; the reason and the place where it stood are in the headers."""

ALL = (EVENTS, ITEMS, DECISIONS, AUDIT, DEAD_LETTERS)
MAX_MESSAGE_BYTES = max(topic.max_message_bytes for topic in ALL)
