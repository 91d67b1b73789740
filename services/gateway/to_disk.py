"""Decisions into files of the home: all there is without a broker, and where they wait while it is away.

What the disk has no room for is counted as dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from services.gateway.spool import Spool
from winnow.errors import DiskFull, ResourceExhausted, WinnowError
from winnow.serving.telemetry import DECISIONS, DECISIONS_DROPPED, DECISIONS_WAITING
from winnow.topics import Record

OpenSpool = Callable[[], Spool]

logger = logging.getLogger(__name__)


class ToDisk:
    """Files in the home: all there is without a broker, and the spool where there is one."""

    def __init__(self, open_spool: OpenSpool) -> None:
        self._open_spool = open_spool
        self._spool: Spool | None = None
        self._told = ""

    @property
    def spool(self) -> Spool:
        """Made when it is needed: a folder that cannot be written must not keep a gateway from starting."""
        if self._spool is None:
            self._spool = self._open_spool()
        return self._spool

    def deliver(self, records: Sequence[Record]) -> None:
        try:
            self.spool.append([record.value for record in records])
            DECISIONS.labels(to="disk").inc(len(records))
            DECISIONS_WAITING.set(self.spool.size_bytes)
            self._told = ""
        except WinnowError as full:
            reason = reason_of(full)
            dropped(reason, len(records))
            if reason != self._told:  # once, not with every batch
                logger.warning("decisions are dropped: %s", full.detail)
            self._told = reason

    def idle(self) -> bool:
        return False

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()


def dropped(reason: str, number: int) -> None:
    DECISIONS_DROPPED.labels(reason=reason).inc(number)


def reason_of(full: WinnowError) -> str:
    match full:
        case DiskFull():
            return "disk_full"
        case ResourceExhausted():
            return "spool_full"
        case _:
            return "disk_failed"
