"""Settings of every test."""

import logging
import os
import sys
from typing import Any

import pytest
from hypothesis import settings

from tests.order import LongestFirst, longest_first

# As the Makefile does: what tests start must not compile all that it imports each time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shared machine may stall for seconds: time is bounded per test by pytest, not per example.
settings.register_profile("winnow", deadline=None)
settings.register_profile("long", deadline=None, max_examples=2_000)  # make fuzz
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "winnow"))


@pytest.fixture(autouse=True)
def quiet_root() -> None:
    """Undo what a program that an earlier test ran in this process said about logging: it writes where that test wrote."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A worker of several; alone, tests run in the order of their files."""
    if hasattr(config, "workerinput"):
        items[:] = longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongestFirst | None:
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return LongestFirst(config, log)
