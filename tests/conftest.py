"""Settings of every test."""

from hypothesis import settings

# A shared machine may stall for seconds: time is bounded per test by pytest, not per example.
settings.register_profile("winnow", deadline=None)
settings.load_profile("winnow")
