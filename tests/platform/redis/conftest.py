"""A real Redis, and Feast's own SDK over a small home, for the tests beside this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parts.program import HOST, Running, free_ports, running
from parts.redis import redis
from tests.homes import small_home
from tests.platform.redis.feast_cli import FeastRepo
from winnow.redis import connect


@pytest.fixture(scope="session")
def redis_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """The server, which tests may freeze and kill but leave running, and its address."""
    (port,) = free_ports(1)
    with running(redis(tmp_path_factory.mktemp("redis"), port)) as (server,):
        yield server, f"redis://{HOST}:{port}/0"


@pytest.fixture
def redis_url(redis_running: tuple[Running, str]) -> str:
    """An empty Redis."""
    url = redis_running[1]
    client: Any = connect(url, 5.0)
    client.flushall()
    client.close()
    return url


@pytest.fixture(scope="session")
def feast_repo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeastRepo]:
    """The repository applied to a small home with its offline files, and a Redis of its own."""
    folder = tmp_path_factory.mktemp("feast")
    (port,) = free_ports(1)
    home = small_home(folder / "home")
    with running(redis(folder / "redis", port)), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINNOW_HOME", str(home))
        patch.setenv("WINNOW_FEAST_REGISTRY", f"sqlite:///{folder}/registry.db")
        patch.setenv("WINNOW_FEAST_REDIS", f"{HOST}:{port},db=0")
        yield FeastRepo(home, f"redis://{HOST}:{port}/0", Path("feature_repo").absolute())
