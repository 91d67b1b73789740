"""Settings of every test."""

import logging
import os

import pytest
from hypothesis import settings

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
