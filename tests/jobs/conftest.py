"""One Spark session for every test of the jobs: it takes longer to start than they take together."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from jobs.session import session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Fails where Java is missing, in one line, instead of skipping what nobody would miss."""
    started = session("winnow-tests", small=True)
    yield started
    started.stop()
