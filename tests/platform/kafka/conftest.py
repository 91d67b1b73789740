"""One broker for all tests that leave it alone, and one of its own for each test that does not."""

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
