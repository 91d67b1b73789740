"""Who is known to the feature service is known from Redis while it is away, and no token is said to be included falsely."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from services.gateway.stand_in import HotStates
from tests.events import click
from tests.homes import event_lists
from tests.platform.redis.test_hot_states import hot_of, served, until
from winnow.acts import TYPES
from winnow.errors import Unavailable
from winnow.hot_state import MARK, Mark, key_of
from winnow.redis import connect
from winnow.types import Event, History, Person, UserState

pytestmark = pytest.mark.platform

PEOPLE = [
    Person(user, session)
    for user, session in product(("", "u1", "u2", "new", "nobody"), ("", "s1", "s2", "s3", "none"))
    if user or session
]


def same(left: UserState, right: UserState) -> bool:
    """But for the position, and the order of what was seen by two halves of a person."""
    histories = (
        np.array_equal(
            getattr(left.history, one.name), getattr(right.history, one.name), equal_nan=one.name == "values"
        )
        for one in fields(History)
    )
    simple = ("person", "known", "events")
    return (
        all(histories)
        and all(getattr(left, name) == getattr(right, name) for name in simple)
        and dict(left.traits) == dict(right.traits)
        and set(left.seen) == set(right.seen)
        and left.seen_tail.tolist() == right.seen_tail.tolist()
    )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=event_lists(in_order=False))
def test_redis_says_of_everybody_what_the_service_says(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, events: list[Event]
) -> None:
    connect(redis_url, 5.0).flushall()

    async def play() -> None:
        stand_in = HotStates(redis_url, 5.0)
        async with served(tmp_path_factory.mktemp("home"), redis_url) as service:
            for start in range(0, len(events), 3):
                await service.record(events[start : start + 3])
            for told, known in zip(await stand_in.users(PEOPLE), await service.users(PEOPLE), strict=True):
                assert same(told, known), (told, known)
                assert told.watermark == known.watermark, "everything is in Redis: it may say so"
        await stand_in.close()

    asyncio.run(play())


async def test_a_state_that_redis_missed_is_not_said_to_include_it(tmp_path: Path, redis_url: str) -> None:
    client = connect(redis_url, 5.0)
    stand_in = HotStates(redis_url, 5.0)
    async with served(tmp_path, redis_url) as service:
        first = await service.record([click("e1")])
        client.config_set("maxmemory", 1)
        try:
            missed = await service.record(
                [click("e2", user_id="u2"), click("e3"), click("e4", user_id="", session_id="s9")]
            )
            for person in (Person("u1"), Person("u2"), Person("u1", "s9"), Person(session_id="s9"), Person("u2", "s9")):
                (told,) = await stand_in.users([person])
                assert told.watermark < missed.watermark, person
            (told,) = await stand_in.users([Person("u1")])
            assert (told.events, told.watermark) == (1, first.watermark)
        finally:
            client.config_set("maxmemory", 0)
        await until(lambda: hot_of(service).current)
        for told in await stand_in.users([Person("u1"), Person("u2"), Person("u1", "s9")]):
            assert told.watermark == missed.watermark
    await stand_in.close()


async def test_what_another_log_left_in_redis_or_nobody_can_read_counts_for_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    client = connect(redis_url, 5.0)
    stand_in = HotStates(redis_url, 5.0)
    async with served(tmp_path, redis_url) as service:
        await service.record([click("e1"), click("e2", user_id="u2"), click("e3", session_id="s1")])
    client.set(key_of(Person("u2")), b"WHOT2\nrubbish")
    client.set(key_of(Person(session_id="s1")), b"WHOT2>" + bytes(16) + b"\xff\x00")
    people = [Person("u1"), Person("u2"), Person(session_id="s1")]
    assert [state.events for state in await stand_in.users(people)] == [2, 0, 0]
    mark = Mark.read(client.get(MARK))
    assert mark is not None
    client.set(MARK, bytes(Mark(mark.log ^ 1, 99)))
    assert [state.events for state in await stand_in.users(people)] == [0, 0, 0]
    await stand_in.close()


async def test_traits_and_long_histories_come_along(tmp_path: Path, redis_url: str) -> None:
    stand_in = HotStates(redis_url, 5.0)
    async with served(tmp_path, redis_url) as service:
        service._people._traits = {"u1": {"country": "GB", "odd": "a\0b"}}
        acts = [click(f"e{n}", f"i{n}", minute=n, type=TYPES[1 + n % 3]) for n in range(800)]
        for start in range(0, 800, 100):
            await service.record(acts[start : start + 100])
        (told,), (known,) = await stand_in.users([Person("u1")]), await service.users([Person("u1")])
        assert told.traits == {"country": "GB"}
        assert len(told.seen_tail) == 300
        service._people._traits = {"u1": {"country": "GB"}}
        (known,) = await service.users([Person("u1")])
        assert same(told, known)
        assert told.seen.tolist() == known.seen.tolist()
    await stand_in.close()


async def test_without_redis_it_says_so() -> None:
    stand_in = HotStates("redis://127.0.0.1:1/0", 0.2)
    with pytest.raises(Unavailable):
        await stand_in.users([Person("u1")])
    await stand_in.close()
