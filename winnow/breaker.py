"""A circuit breaker: after a few failures in a row nobody waits for what is down, and one call at a time finds out
whether it is back.

    closed ──`failures` in a row──▶ open ──`open_s` later──▶ half-open: one probe ──answered──▶ closed
                                     ▲                              │
                                     └───────────failed─────────────┘

It knows neither what is called nor which errors count: the caller says how each call ended. (Nygard, *Release It!*)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from winnow.errors import Unavailable

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call. It counts only in the phase in which it was given: what was begun before an outage says
    nothing about the time after it."""

    phase: int
    probe: bool = False


class Breaker:
    """Thread-safe. Every `admit` is followed by one of `answered`, `failed` and `unknown`. A probe that says nothing
    for `open_s` counts as lost, and another one is let through."""

    def __init__(
        self, name: str, *, failures: int = 3, open_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._phase = 0  # rises with every change between closed, open and probing
        self._failed = 0  # in a row, while closed
        self._closed = True
        self._probe_at = 0.0  # while not closed: the next call from then on is a probe

    @property
    def state(self) -> State:
        with self._lock:
            if self._closed:
                return "closed"
            return "half-open" if self._clock() >= self._probe_at else "open"

    def admit(self) -> Permit:
        """Leave for one call; Unavailable at once while the breaker is open or another call probes."""
        with self._lock:
            if self._closed:
                return Permit(self._phase)
            now = self._clock()
            if now < self._probe_at:
                raise Unavailable(f"{self._name}: down, asked again in {self._probe_at - now:.1f} s at the latest")
            self._open(now)
            return Permit(self._phase, probe=True)

    def answered(self, permit: Permit) -> None:
        """The other side is alive, whatever it said."""
        with self._lock:
            if permit.phase != self._phase:
                return
            self._failed = 0
            if permit.probe:
                self._closed = True
                self._phase += 1

    def failed(self, permit: Permit) -> None:
        """The other side could not be reached, or did not answer in a fair time."""
        with self._lock:
            if permit.phase != self._phase:
                return
            self._failed += 1
            if permit.probe or self._failed >= self._limit:
                self._open(self._clock())

    def unknown(self, permit: Permit) -> None:
        """The call ended before it could tell. A probe makes room for the next one at once."""
        with self._lock:
            if permit.phase == self._phase and permit.probe:
                self._probe_at = self._clock()

    def _open(self, now: float) -> None:
        """Let nobody through for `open_s`; under the lock."""
        self._closed, self._failed = False, 0
        self._probe_at = now + self._open_s
        self._phase += 1
