"""One broker for all tests that leave it alone, and one of its own for each test that does not."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker, broker_in


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker_in(tmp_path_factory.mktemp("broker")) as one:
        yield one


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    with broker_in(tmp_path / "broker") as one:
        yield one


@pytest.fixture(autouse=True)
def no_client_left() -> Iterator[None]:
    """A client that is closed ends its threads."""
    before = set(threading.enumerate())
    yield
    ends = time.monotonic() + 10
    while (left := [one for one in threading.enumerate() if one.name.startswith("kafka") and one not in before]) and (
        time.monotonic() < ends
    ):
        time.sleep(0.05)
    assert left == []
