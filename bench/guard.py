"""What it costs to ask who somebody is, how often they came and whether they may: microseconds of each request.

    python -m bench.guard [redis://host:port/0]

The guard alone, in this process, without a network except to Redis.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import jwt
import orjson
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec

from services.gateway.api_keys import ApiKeys, create
from services.gateway.gate import Callers, Gate
from services.gateway.key_set import KeySet, parse
from services.gateway.rates import Buckets, InMemory, Rate
from services.gateway.rates_redis import InRedis
from services.gateway.tokens import Expected, Tokens
from winnow.errors import Unavailable
from winnow.serving.guard import Credentials

CALLS, BLOCKS = 300, 15
ISSUER, AUDIENCE, ROUTE = "https://issuer.example", "winnow", "POST /v1/recommendations"
MANY = Rate(1e6, 10**6)

Ask = Callable[[], Awaitable[None]]


class Nowhere:
    """A source of keys that are here already."""

    async def read(self) -> bytes:
        raise Unavailable("nobody is asked")

    def changed(self) -> bool:
        return False


def signed() -> tuple[str, KeySet]:
    """A token, and the key set that knows its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    shown = {**jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k"}
    keys = KeySet(Nowhere(), 300)
    keys.use(parse(orjson.dumps({"keys": [shown]})))
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "exp": int(time.time()) + 3_600, "scope": "recommend"}
    return jwt.encode(claims, key, "ES256", headers={"kid": "k"}), keys


def ways(buckets: Buckets) -> dict[str, Ask]:
    """Every way to be let in, over these buckets."""
    token, keys = signed()
    key, row = create("bench", ("recommend",), None)
    held = ApiKeys(orjson.dumps({"keys": [row.model_dump(mode="json")]}).decode())
    expected = Expected(ISSUER, AUDIENCE, 30)
    callers = Callers(Tokens(keys, expected), held)
    by_token, by_key = Credentials([f"Bearer {token}"], (), "192.0.2.1"), Credentials((), [key], "192.0.2.1")

    def asking(credentials: Credentials, again: bool = True) -> Ask:
        gate = Gate(callers, buckets, MANY, MANY)

        async def ask() -> None:
            here = gate if again else Gate(Callers(Tokens(keys, expected), None), buckets, MANY, MANY)
            admission = await here.admit(ROUTE, credentials)
            assert admission.refusal is None, admission.refusal

        return ask

    return {
        "token seen before": asking(by_token),
        "token for the first time": asking(by_token, again=False),
        "API key": asking(by_key),
    }


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one request, microseconds: until it was let in, and of a core of this process."""

    wall_us: float
    cpu_us: float


async def cost(ask: Ask) -> Cost:
    """Medians of the means of blocks: one that the machine stalled in says nothing."""
    walls, cpus = [], []
    for _ in range(BLOCKS):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(CALLS):
            await ask()
        cpus.append((time.process_time() - cpu) / CALLS * 1e6)
        walls.append((time.perf_counter() - wall) / CALLS * 1e6)
    return Cost(statistics.median(walls), statistics.median(cpus))


async def main(redis_url: str = "") -> dict[str, Cost]:
    """By way and place of the buckets."""
    places: dict[str, Buckets] = {"memory": InMemory()}
    if redis_url:
        places["Redis"] = InRedis(redis_url, 1.0)
    costs = {}
    for place, buckets in places.items():
        for way, ask in ways(buckets).items():
            costs[f"{way}, buckets in {place}"] = await cost(ask)
        await buckets.close()
    return costs


if __name__ == "__main__":
    for what, spent in uvloop.run(main(*sys.argv[1:2])).items():
        print(f"{what:<44} {spent.wall_us:7.1f} µs, of a core {spent.cpu_us:7.1f} µs")
