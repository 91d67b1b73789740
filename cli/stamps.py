"""Which step of a home is done, by the content of what went into it. A step that changed nothing is not repeated."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LEARNS = (
    "training/**/*.py",
    "winnow/*features.py",
    "winnow/encoding.py",
    "winnow/acts.py",
    "winnow/types.py",
    "services/retrieval/**/*.py",
)
"""The code that decides what a model becomes: another release trains again."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step: what went in (`key`), what came out, how long it took when it ran, and whether it ran now."""

    name: str
    key: str
    result: dict[str, Any]
    seconds: float
    skipped: bool = False


class Stamps:
    """The stamps of one home, one JSON file per step."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "stamps"

    def once(
        self, name: str, key: str, work: Callable[[], dict[str, Any]], still: Callable[[dict[str, Any]], bool]
    ) -> Done:
        """Run the step unless it was done with this key and its result is `still` there."""
        before = self.read(name)
        if before is not None and before.key == key and still(before.result):
            return Done(name, key, before.result, before.seconds, skipped=True)
        started = time.monotonic()
        done = Done(name, key, work(), round(time.monotonic() - started, 2))
        self.keep(done)
        return done

    def keep(self, done: Done) -> None:
        """Note what a step found, or has found so far; a step that is not done must not be `still` there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{done.name}.json"
        beside = file.with_suffix(".tmp")
        beside.write_text(json.dumps(asdict(done), indent=1), encoding="utf-8")
        beside.replace(file)

    def read(self, name: str) -> Done | None:
        file = self._folder / f"{name}.json"
        return Done(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def key_of(*parts: object) -> str:
    """16 hex digits over what goes into a step."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@cache
def code() -> str:
    """16 hex digits over the code that decides what a model becomes."""
    whole = hashlib.sha256()
    for pattern in LEARNS:
        for file in sorted(ROOT.glob(pattern)):
            whole.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()[:16]
