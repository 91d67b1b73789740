"""Buckets that all gateways share, in Redis; and those of each gateway's own while Redis is away.

One script per request takes the token where the bucket is, by Redis's own clock, so gateways need not agree on the time.
"""

from __future__ import annotations

from services.gateway.rates import Buckets, Rate
from winnow.errors import DeadlineExceeded, Unavailable
from winnow.guarded import Guarded
from winnow.redis import Script
from winnow.serving.guard import Budget
from winnow.serving.telemetry import RATES_FALLBACK

PREFIX = "winnow:rate:"
# ARGV: time of one token, time of the whole bucket, both in microseconds. Forgotten once full: that is how it began.
TAKE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local token, bucket = tonumber(ARGV[1]), tonumber(ARGV[2])
local ahead = (tonumber(redis.call('GET', KEYS[1])) or now) - now
ahead = math.min(math.max(ahead, 0), bucket)
if ahead + token > bucket then return {0, ahead} end
ahead = ahead + token
redis.call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000))
return {1, ahead}
"""


class InRedis:
    """Buckets of all gateways of one Redis."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._script = Script(url, timeout_s, TAKE)

    async def take(self, name: str, rate: Rate) -> Budget:
        allowed, ahead = await self._script(f"{PREFIX}{name}", rate.token_us, rate.bucket_us)
        return rate.budget(ahead, allowed == 1)

    async def close(self) -> None:
        await self._script.close()


class Shared:
    """The shared buckets, and this gateway's own while those are out of reach: then each gateway grants the whole rate."""

    def __init__(self, shared: Buckets, own: Buckets) -> None:
        self._shared = shared
        self._own = own
        self._guarded = Guarded("rate limits", failures=3)

    async def take(self, name: str, rate: Rate) -> Budget:
        try:
            return await self._guarded(lambda: self._shared.take(name, rate))
        except (Unavailable, DeadlineExceeded):
            RATES_FALLBACK.inc()
            return await self._own.take(name, rate)

    async def close(self) -> None:
        await self._shared.close()
        await self._own.close()
