"""Settings of every test."""

import logging

import pytest
from hypothesis import settings

# A shared machine may stall for seconds: time is bounded per test by pytest, not per example.
settings.register_profile("winnow", deadline=None)
settings.load_profile("winnow")


@pytest.fixture(autouse=True)
def quiet_root() -> None:
    """Undo what a program that an earlier test ran in this process said about logging: it writes where that test wrote."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
