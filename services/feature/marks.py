"""How far a topic has got, durably: positions of the log with the offsets that the broker had acknowledged then.

The newest mark says where to go on; older ones, thinned out, say where to start again when the broker has lost records.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

SAVE_S = 0.2  # a crash sends at most the rows of so long a time again
KEPT = 256  # marks before every second one of the older half is dropped

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """When rows up to `position` were acknowledged, the next record of each partition was to get this offset."""

    position: int
    offsets: dict[int, int]


START = Mark(0, {})


class Marks:
    """Kept in a file; one that is missing, unreadable, of another topic or ahead of the log means: from the start."""

    def __init__(self, path: Path, topic: str, log_position: int) -> None:
        self._path = path
        self._topic = topic
        self._marks = [START, *read(path, topic, log_position)]
        self._saved_at = 0.0

    @property
    def position(self) -> int:
        return self._marks[-1].position

    @property
    def offsets(self) -> Mapping[int, int]:
        return self._marks[-1].offsets

    def add(self, position: int, offsets: Mapping[int, int]) -> None:
        """Rows up to `position` are acknowledged; `offsets` names the partitions that have moved."""
        self._marks.append(Mark(position, {**self.offsets, **offsets}))
        if len(self._marks) > KEPT:
            self._marks[1 : KEPT // 2] = self._marks[1 : KEPT // 2 : 2]
        if time.monotonic() - self._saved_at > SAVE_S:
            self.save()

    def drop_beyond(self, ends: Mapping[int, int]) -> bool:
        """Forget marks that claim more than these end offsets; whether there were any."""
        before = len(self._marks)
        while any(self.offsets.get(partition, 0) > end for partition, end in ends.items()):
            self._marks.pop()
        if len(self._marks) < before:
            self.save()
        return len(self._marks) < before

    def save(self) -> None:
        """Write them, all or nothing. Without a disk they stay in memory: the next start then sends some rows again."""
        marks = [[mark.position, list(mark.offsets.items())] for mark in self._marks[1:]]
        beside = self._path.with_suffix(".new")
        self._saved_at = time.monotonic()
        try:
            with beside.open("wb") as file:
                file.write(orjson.dumps({"topic": self._topic, "marks": marks}))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as failed:
            logger.warning("cannot note how far %s has got: %s", self._topic, failed.strerror)


def read(path: Path, topic: str, log_position: int) -> list[Mark]:
    try:
        body = orjson.loads(path.read_bytes())
        marks = [Mark(int(position), {int(p): int(o) for p, o in offsets}) for position, offsets in body["marks"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        logger.warning("%s cannot be read, sending from the start: %s", path.name, wrong)
        return []
    if body["topic"] != topic or (marks and marks[-1].position > log_position):
        logger.warning("%s is of another log or topic, sending from the start", path.name)
        return []
    return marks
