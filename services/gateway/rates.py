"""How often somebody may ask: token buckets (in Redis: `rates_redis`). One bucket for every known caller, and one for every
address of callers nobody knows.

A bucket is kept as one number, the moment at which it will be full again: each request moves it by the time in which
one token grows, and is refused when that would be more than the whole bucket's time ahead.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from winnow.serving.guard import Budget, network_of
from winnow.serving.principal import Principal

MAX_BUCKETS = 50_000
SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` requests a second, `burst` of them at once. Times are whole microseconds: all buckets count alike."""

    per_s: float
    burst: int

    @property
    def token_us(self) -> int:
        return max(1, round(SECOND_US / self.per_s))

    @property
    def bucket_us(self) -> int:
        return self.token_us * self.burst

    def budget(self, ahead_us: int, allowed: bool) -> Budget:
        """What is left in a bucket that is full in `ahead_us`."""
        left = max(0, self.bucket_us - ahead_us) // self.token_us
        wait_us = 0 if allowed else max(0, ahead_us + self.token_us - self.bucket_us)
        return Budget(allowed, self.burst, left, ahead_us / SECOND_US, wait_us / SECOND_US)


class Buckets(Protocol):
    """Somewhere to keep buckets."""

    async def take(self, name: str, rate: Rate) -> Budget:
        """Take one token, or find that there is none. Unavailable, DeadlineExceeded: the bucket is out of reach."""
        ...

    async def close(self) -> None: ...


class InMemory:
    """Buckets of this process. Of too many the ones that were used longest ago are forgotten, that is, full."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_buckets: int = MAX_BUCKETS) -> None:
        self._clock = clock
        self._max = max_buckets
        self._full_at: OrderedDict[str, int] = OrderedDict()

    async def take(self, name: str, rate: Rate) -> Budget:
        now = math.floor(self._clock() * SECOND_US)
        ahead = min(max(self._full_at.get(name, now) - now, 0), rate.bucket_us)
        allowed = ahead + rate.token_us <= rate.bucket_us
        if allowed:
            ahead += rate.token_us
            self._full_at[name] = now + ahead
            self._full_at.move_to_end(name)
            if len(self._full_at) > self._max:
                self._full_at.popitem(last=False)
        return rate.budget(ahead, allowed)

    async def close(self) -> None:
        self._full_at.clear()


def name_of(caller: Principal, address: str) -> str:
    """The bucket of a caller. Hashed: a subject or an address may be a person's, and nobody needs to read it there."""
    whose = (caller.kind, caller.issuer, caller.subject) if caller.known else ("address", network_of(address))
    return blake2b("\0".join(whose).encode(errors="replace"), digest_size=16).hexdigest()
