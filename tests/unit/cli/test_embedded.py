"""A platform inside a command says what a platform that serves says."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.demo import warm
from cli.embedded import embedded
from services.all import Platform, Settings
from tests.homes import PATIENT
from tests.platform.conftest import platform_home
from training.data.generated import World
from winnow.home import DATASET
from winnow.ports import Recommender
from winnow.requests import RecommendRequest
from winnow.types import Context, Person

AT = Context(at=datetime(2026, 1, 31, 12, tzinfo=UTC))
ASKED = [RecommendRequest(Person(who), n=30, context=AT) for who in ("newcomer", *(f"u{n}" for n in range(1, 31)))]
WAIT_S = 60.0

Told = list[tuple[str, str, str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Its people rate on another scale than most."""
    home = platform_home(tmp_path / "home", World(items=200, people=30, events=3_000, seed=7))
    about = json.loads((home / DATASET).read_text(encoding="utf-8"))
    (home / DATASET).write_text(json.dumps(about | {"positive_value": 1.0}), encoding="utf-8")
    return home


async def told(gateway: Recommender) -> Told:
    """Item, fact and sentence of every reason."""
    answers = await gateway.recommend(ASKED)
    assert not any(answer.skipped for answer in answers)
    return [(one.item_id, one.reason.fact, one.reason.text) for answer in answers for one in answer.items if one.reason]


async def served(home: Path) -> Told:
    """The reasons of a platform that serves, once it knows what is popular."""
    settings = Settings(home=home, rest_address="127.0.0.1:0", gateway_address="127.0.0.1:0")
    platform, found = Platform(settings), Told()

    async def story() -> None:
        async with asyncio.timeout(WAIT_S):
            await warm(platform, ASKED[0].person)
            while not any(fact == "popular" for _, fact, _ in found):
                found[:] = await told(platform.gateway)

    await platform.process().run(story)
    return found


async def traced(home: Path) -> Told:
    async with embedded(home) as gateway:
        return await told(gateway)


def test_a_command_gives_the_reasons_that_serving_gives(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)
    expected = asyncio.run(served(home))
    assert any(text.startswith("Because you liked") for _, _, text in expected)
    assert asyncio.run(traced(home)) == expected
