"""Decisions to the broker, with the disk behind it.

While the broker is away decisions wait on disk, and those that come later wait behind them, until it has caught up. A
decision may be delivered twice, told by its request id. Knows nothing of what a decision says but whose it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

import orjson

from services.gateway.to_disk import ToDisk, dropped
from winnow.errors import PayloadTooLarge, WinnowError
from winnow.kafka import Producer, create
from winnow.serving.telemetry import DECISIONS, DECISIONS_WAITING
from winnow.topics import DECISIONS as TOPIC
from winnow.topics import Record

BATCH = 100  # decisions replayed at a time
AHEAD = 3  # batches replayed for each that comes meanwhile: what waits gets less
DELIVERY_S = 2.0  # the queue must hold what comes meanwhile
RETRY_S = 2.0

logger = logging.getLogger(__name__)


class ToBroker:
    """The topic of decisions, with the disk behind it."""

    def __init__(self, bootstrap: str, disk: ToDisk, *, replicas: int) -> None:
        self._bootstrap = bootstrap
        self._disk = disk
        self._replicas = replicas
        self._producer: Producer | None = None
        self._retry_at = 0.0
        self._away = False
        self._left_over = True  # an earlier process may have left decisions

    def deliver(self, records: Sequence[Record]) -> None:
        for _ in range(AHEAD):
            if not self.idle():
                break
        if self._left_over or not self._sent(records):
            self._left_over = True
            self._disk.deliver(records)

    def idle(self) -> bool:
        """Deliver one batch of what waits on disk; False when there is none, or the broker is away."""
        if not self._left_over or not self._reachable():
            return False
        try:
            lines = self._disk.spool.oldest(BATCH)
            self._left_over = bool(lines)
            if not lines or not self._sent(records_of(lines)):
                return False
            self._disk.spool.drop()
            DECISIONS_WAITING.set(self._disk.spool.size_bytes)
        except WinnowError as lost:  # what the disk does not give is left; what comes goes to the broker
            logger.warning("decisions on disk are left there: %s", lost.detail)
            self._left_over = False
        return self._left_over

    def close(self) -> None:
        self._let_go()
        self._disk.close()

    def _reachable(self) -> bool:
        return self._producer is not None or time.monotonic() >= self._retry_at

    def _sent(self, records: Sequence[Record]) -> bool:
        """Whether the broker has them, or never will: one that is too large is dropped."""
        if not self._reachable():
            return False
        try:
            self._connected().produce(TOPIC.name, records)
        except PayloadTooLarge:
            return self._sent_singly(records)
        except WinnowError as away:
            self._lost(away)
            return False
        if self._away:
            logger.info("decisions go to Kafka at %s again", self._bootstrap)
        self._away = False
        DECISIONS.labels(to="broker").inc(len(records))
        return True

    def _lost(self, away: WinnowError) -> None:
        if not self._away:
            logger.warning("decisions wait on disk, Kafka at %s: %s", self._bootstrap, away.detail)
        self._away = True
        self._let_go()
        self._retry_at = time.monotonic() + RETRY_S

    def _sent_singly(self, records: Sequence[Record]) -> bool:
        if len(records) == 1:
            dropped("too_large", 1)
            return True
        return all(self._sent([record]) for record in records)

    def _connected(self) -> Producer:
        if self._producer is None:
            create(self._bootstrap, [TOPIC], replicas=self._replicas)
            self._producer = Producer(self._bootstrap, "winnow-decisions", delivery_s=DELIVERY_S)
        return self._producer

    def _let_go(self) -> None:
        if self._producer is not None:
            with suppress(WinnowError):
                self._producer.close()
        self._producer = None


def records_of(lines: Sequence[bytes]) -> list[Record]:
    """Decisions that were encoded before. A line that a power cut has damaged is none."""
    records = []
    for line in lines:
        try:
            body = orjson.loads(line)
            records.append(Record(str(body["user_id"] or body["session_id"]).encode(), line))
        except (ValueError, KeyError, TypeError):
            dropped("damaged", 1)
    return records
