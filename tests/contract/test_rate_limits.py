"""Token buckets in memory and in a real Redis keep the same promises; and what happens while Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from itertools import count
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from parts.program import HOST, Running, free_ports, running
from parts.redis import redis
from services.gateway.gate import Gate
from services.gateway.rates import Buckets, InMemory, Rate, name_of
from services.gateway.rates_redis import InRedis, Shared
from tests.guards import bearer, faces, guard
from tests.issuers import token
from winnow.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from winnow.redis import connect
from winnow.serving.principal import NOBODY, Principal

TIMEOUT_S = 2.0
SLOW = Rate(per_s=0.05, burst=5)  # grows too slowly to matter within a test
FAST = Rate(per_s=20, burst=4)

pytestmark = pytest.mark.platform


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    (port,) = free_ports(1)
    with running(redis(tmp_path_factory.mktemp("rates"), port)) as (one,):
        yield one, f"redis://{HOST}:{port}/0"


@pytest.fixture(params=["memory", "redis"])
async def buckets(request: pytest.FixtureRequest) -> AsyncIterator[Buckets]:
    if request.param == "memory":
        made: Buckets = InMemory()
    else:
        url = request.getfixturevalue("server")[1]
        client: Any = connect(url, 5.0)
        client.flushall()
        client.close()
        made = InRedis(url, TIMEOUT_S)
    yield made
    await made.close()


# ------------------------------------------------------------------------------------- one contract, two places


async def test_a_full_bucket_gives_its_burst_and_then_nothing(buckets: Buckets) -> None:
    taken = [await buckets.take("a", SLOW) for _ in range(7)]
    assert [one.allowed for one in taken] == [True] * 5 + [False] * 2
    assert [one.remaining for one in taken] == [4, 3, 2, 1, 0, 0, 0]
    assert {one.limit for one in taken} == {5}


async def test_buckets_know_nothing_of_each_other(buckets: Buckets) -> None:
    for _ in range(6):
        await buckets.take("a", SLOW)
    assert (await buckets.take("b", SLOW)).remaining == 4


async def test_a_refused_try_costs_nothing_and_says_when_to_come_back(buckets: Buckets) -> None:
    for _ in range(4):
        await buckets.take("a", FAST)
    refused = [await buckets.take("a", FAST) for _ in range(3)]
    while refused[-1].allowed:  # a stalled machine let one grow
        refused.append(await buckets.take("a", FAST))
    last = refused[-1]
    assert 0 < last.retry_s <= 1 / FAST.per_s
    assert 0 < last.reset_s <= FAST.burst / FAST.per_s
    await asyncio.sleep(last.retry_s + 0.005)
    assert (await buckets.take("a", FAST)).allowed


async def test_over_time_exactly_the_rate_is_granted(buckets: Buckets) -> None:
    began = answered = before = time.monotonic()
    granted, lost = 0, 0.0
    while (asked := time.monotonic()) - began < 1.0:
        granted += (await buckets.take("a", FAST)).allowed
        answered = time.monotonic()
        # Between two tries a bucket has room for one token; more, on a machine that stalls, it may not keep.
        lost += max(0.0, (answered - before) * FAST.per_s - 1)
        before = asked
        await asyncio.sleep(0.002)
    earned = FAST.burst + (answered - began) * FAST.per_s
    assert earned - lost - 4 <= granted <= earned


async def test_a_bucket_fills_up_to_its_burst_and_no_further(buckets: Buckets) -> None:
    for _ in range(4):
        await buckets.take("a", FAST)
    await asyncio.sleep(0.5)
    assert (await buckets.take("a", FAST)).remaining == 3


async def test_many_at_once_get_no_more_than_one_after_the_other(buckets: Buckets) -> None:
    taken = await asyncio.gather(*(buckets.take("a", SLOW) for _ in range(200)))
    assert sum(one.allowed for one in taken) == 5


async def test_another_rate_for_the_same_bucket_counts_from_now_on(buckets: Buckets) -> None:
    for _ in range(5):
        await buckets.take("a", SLOW)
    assert not (await buckets.take("a", Rate(1, 1))).allowed


async def test_very_high_and_very_low_rates_are_kept(buckets: Buckets) -> None:
    high = [await buckets.take("high", Rate(1e6, 10**6)) for _ in range(20)]
    assert all(one.allowed and one.remaining > 999_900 for one in high)
    low = Rate(1e-3, 1)
    assert (await buckets.take("low", low)).allowed
    refused = await buckets.take("low", low)
    assert not refused.allowed
    assert 990 < refused.retry_s <= 1_000


# --------------------------------------------------------------------------------------------- in memory


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@settings(max_examples=60)
@given(
    st.floats(0.1, 1_000), st.integers(1, 50), st.lists(st.floats(0, 3), min_size=1, max_size=60)
)  # seconds between two tries
async def test_no_pattern_of_tries_gets_more_than_the_rate(per_s: float, burst: int, waits: list[float]) -> None:
    clock, rate, granted = Clock(), Rate(per_s, burst), 0
    here = InMemory(clock)
    for wait in waits:
        clock.now += wait
        budget = await here.take("a", rate)
        granted += budget.allowed
        assert 0 <= budget.remaining <= burst
        assert granted <= burst + clock.now * 1e6 / rate.token_us + 1e-6


async def test_what_is_kept_in_memory_is_bounded() -> None:
    here = InMemory(max_buckets=10)
    for number in range(100):
        await here.take(f"b{number}", SLOW)
    assert len(here._full_at) == 10


def test_names_of_buckets_tell_callers_apart_and_say_nothing_of_them() -> None:
    shop = Principal("shop", "token", frozenset(), "issuer")
    names = [
        name_of(shop, "10.0.0.1"),
        name_of(Principal("shop", "key", frozenset()), "10.0.0.1"),
        name_of(Principal("shop", "token", frozenset(), "other"), "10.0.0.1"),
        name_of(NOBODY, "10.0.0.1"),
        name_of(NOBODY, "10.0.0.2"),
        name_of(NOBODY, "2001:db8::1"),
        name_of(NOBODY, "2001:db8:1::1"),
    ]
    assert len(set(names)) == len(names)
    assert name_of(shop, "10.9.9.9") == names[0], "a caller has one bucket, wherever they are"
    assert name_of(NOBODY, "2001:db8::ffff") == names[5], "a network is one client"
    assert name_of(NOBODY, "::ffff:10.0.0.1") == names[3]
    assert not any("shop" in name or "10.0" in name for name in names)


# ---------------------------------------------------------------------------------------- Redis and its absence


async def test_gateways_share_a_bucket_and_redis_forgets_it(server: tuple[Running, str]) -> None:
    async with aclosing(Two(server[1])) as two:
        taken = [await one.take("shared", SLOW) for _ in range(4) for one in two.gateways]
        assert sum(one.allowed for one in taken) == 5
        client: Any = connect(server[1], 5.0)
        (key,) = client.keys("winnow:rate:shared")
        assert 0 < client.pttl(key) <= 1_000 * SLOW.burst / SLOW.per_s
        await two.gateways[0].take("brief", FAST)
        async with asyncio.timeout(30):
            while client.keys("winnow:rate:brief"):  # noqa: ASYNC110  # nobody is told of it
                await asyncio.sleep(0.02)
        client.close()


class Two:
    """The buckets of two gateways over one Redis."""

    def __init__(self, url: str) -> None:
        self.gateways = [InRedis(url, TIMEOUT_S) for _ in range(2)]

    async def aclose(self) -> None:
        for one in self.gateways:
            await one.close()


async def test_an_address_that_is_none_stops_the_start() -> None:
    with pytest.raises(FailedPrecondition, match="redis://"):
        InRedis("http://nowhere", 1.0)


async def test_a_caller_who_leaves_in_the_middle_spoils_nothing(server: tuple[Running, str]) -> None:
    """The reply that nobody waited for is not taken for the next one's."""
    here = InRedis(server[1], TIMEOUT_S)
    for _ in range(6):
        await here.take("left", SLOW)
    for number in range(20):
        leaving = asyncio.create_task(here.take("left", SLOW))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await here.take(f"fresh{number}", SLOW)).remaining == 4, "not the reply of the one that is empty"
    await here.close()


def fallbacks() -> float:
    return REGISTRY.get_sample_value("winnow_rate_limit_fallback_total") or 0.0


async def reached(shared: Shared, name: str) -> str:
    """A bucket from which Redis has given one token: it may need some tries, and each is for a bucket of its own."""
    async with asyncio.timeout(30):
        for number in count():
            counted = fallbacks()
            taken = await shared.take(f"{name}{number}", SLOW)
            if fallbacks() == counted:
                break
            await asyncio.sleep(0.05)
    assert taken.remaining == 4
    return f"{name}{number}"


async def test_without_redis_each_gateway_counts_by_itself_and_says_so(server: tuple[Running, str]) -> None:
    """Frozen, thawed, and at an address where nothing listens: never an error, never a long wait."""
    redis_server, url = server
    shared = Shared(InRedis(url, 0.1), InMemory())
    away = await reached(shared, "away")
    before = fallbacks()
    redis_server.freeze()
    try:
        began = time.monotonic()
        taken = [await shared.take(away, SLOW) for _ in range(8)]
        assert time.monotonic() - began < 3 * 0.1 + 1.0, "after a few failures nobody waits any more"
        assert sum(one.allowed for one in taken) == 5, "this gateway's own bucket"
        assert fallbacks() == before + 8
    finally:
        redis_server.thaw()
    await reached(shared, "back")
    await shared.close()
    nowhere = InRedis("redis://127.0.0.1:1/0", 0.5)
    with pytest.raises((Unavailable, DeadlineExceeded)):
        await nowhere.take("a", SLOW)
    assert (await Shared(nowhere, InMemory()).take("a", SLOW)).allowed


# ----------------------------------------------------------------------------------------------- on both faces


async def test_who_asks_too_often_is_told_by_headers_and_a_problem() -> None:
    caller, other = bearer(token(sub="a")), bearer(token(sub="b"))
    async with faces(guard(rate=Rate(0.1, 2))) as both:
        answers = [await both.http.get("/v1/trending", headers=caller) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        assert [one.headers["ratelimit-remaining"] for one in answers] == ["1", "0", "0"]
        assert {one.headers["ratelimit-limit"] for one in answers} == {"2"}
        assert 10 < int(answers[2].headers["ratelimit-reset"]) <= 20
        assert 1 <= int(answers[2].headers["retry-after"]) <= 10
        assert answers[2].headers["content-type"] == "application/problem+json"
        assert answers[2].json()["type"] == "urn:winnow:problem:rate-limited"
        assert "retry-after" not in answers[0].headers
        assert (await both.http.get("/v1/trending", headers=other)).status_code == 200
        assert (await both.http.get("/healthz", headers=caller)).status_code == 200, "probes are never turned away"
        trending = both.channel.unary_unary("/winnow.v1.RecommenderService/Trending")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await trending(b"", metadata=tuple(caller.items()), timeout=10)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        told = dict(refused.value.trailing_metadata() or ())
        assert (told["ratelimit-limit"], told["ratelimit-remaining"]) == ("2", "0")
        assert 1 <= int(str(told["retry-after"])) <= 10
        assert 0 < int(str(told["grpc-retry-pushback-ms"])) <= 10_000
        call = trending(b"", metadata=tuple(other.items()), timeout=10)
        await call
        assert dict(await call.trailing_metadata())["ratelimit-remaining"] == "0"


async def test_an_address_that_guesses_is_slowed_down() -> None:
    async with faces(guard(address_rate=Rate(0.1, 3))) as both:
        guesses = [await both.http.get("/v1/trending", headers=bearer(f"{n}.a.b")) for n in range(5)]
        assert [one.status_code for one in guesses] == [401, 401, 401, 429, 429]
        assert (await both.http.get("/v1/trending", headers=bearer(token()))).status_code == 200, "who is known goes on"


async def test_rates_hold_without_authentication_too() -> None:
    async with faces(Gate(None, InMemory(), None, Rate(0.1, 2))) as both:
        assert [(await both.http.get("/v1/trending")).status_code for _ in range(3)] == [200, 200, 429]
