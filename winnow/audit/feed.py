"""A chain's files onward into the topic of audit records, in order, each at least once.

The files are what counts; a broker that is away is caught up with from them. How far it has got stands beside them. One
thread at a time, not the one that somebody waits for.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import orjson

from winnow.audit.folder import Mark, segments
from winnow.audit.record import MAX_BYTES
from winnow.errors import WinnowError
from winnow.kafka import Producer, create
from winnow.serving.telemetry import AUDIT_SENT
from winnow.topics import AUDIT, Record

BATCH = 500
DELIVERY_S = 2.0
RETRY_S = 5.0
SENT = "sent.json"

logger = logging.getLogger(__name__)


class Feed:
    def __init__(self, bootstrap: str, *, replicas: int) -> None:
        self._bootstrap = bootstrap
        self._replicas = replicas
        self._producer: Producer | None = None
        self._retry_at = 0.0
        self._away = False

    def step(self, folder: Path, chain: str, upto: Mark) -> bool:
        """Send what lies in the chain's folder before `upto` and was not sent, a batch at most; whether there was a whole
        one. What is not safely on disk is not sent: after a power cut other records would have its numbers."""
        if time.monotonic() < self._retry_at:
            return False
        mark = read_mark(folder)
        lines, mark = onward(folder, mark, upto)
        if not lines:
            return False
        try:
            self._connected().produce(AUDIT.name, [Record(chain.encode(), line) for line in lines])
        except WinnowError as away:
            self._lost(away)
            return False
        if self._away:
            logger.info("audit records go to Kafka at %s again", self._bootstrap)
        self._away = False
        AUDIT_SENT.inc(len(lines))
        write_mark(folder, mark)
        return len(lines) == BATCH

    def close(self) -> None:
        if self._producer is not None:
            with suppress(WinnowError):
                self._producer.close()
        self._producer = None

    def _connected(self) -> Producer:
        if self._producer is None:
            create(self._bootstrap, [AUDIT], replicas=self._replicas)
            self._producer = Producer(self._bootstrap, "winnow-audit", delivery_s=DELIVERY_S)
        return self._producer

    def _lost(self, away: WinnowError) -> None:
        if not self._away:
            logger.warning("audit records wait in their files, Kafka at %s: %s", self._bootstrap, away.detail)
        self._away = True
        self.close()
        self._retry_at = time.monotonic() + RETRY_S


def onward(folder: Path, mark: Mark, upto: Mark) -> tuple[list[bytes], Mark]:
    """The next lines between two marks, and the mark behind them."""
    lines: list[bytes] = []
    for path in segments(folder):
        if not mark.file <= path.name <= upto.file:
            continue
        end = upto.offset if path.name == upto.file else path.stat().st_size
        start = mark.offset if path.name == mark.file else 0
        with path.open("rb") as file:
            file.seek(start)
            while len(lines) < BATCH and start < end:
                line = file.readline(2 * MAX_BYTES)
                lines.append(line.rstrip(b"\n"))
                start += len(line)
        mark = Mark(path.name, start)
        if len(lines) == BATCH:
            break
    return lines, mark


def read_mark(folder: Path) -> Mark:
    """Where there is none that can be read everything is sent again."""
    try:
        said = orjson.loads((folder / SENT).read_bytes())
        return Mark(str(said["file"]), int(said["offset"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Mark()


def write_mark(folder: Path, mark: Mark) -> None:
    beside = folder / f".{SENT}"
    try:
        beside.write_bytes(orjson.dumps(asdict(mark)))
        beside.replace(folder / SENT)
    except OSError as full:  # what was sent is sent again
        logger.warning("audit records: the mark cannot be written: %s", full.strerror)
