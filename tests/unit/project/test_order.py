"""Workers begin with the files of tests that take longest, and keep together those that share something."""

from pathlib import Path

import pytest

from tests.order import LONGEST, longest_first, unit_of

ROOT = Path(__file__).resolve().parents[3]


class Item:
    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid


def test_what_is_said_to_take_long_is_there() -> None:
    assert [unit for unit in LONGEST if not [*ROOT.glob(f"{unit}*")]] == []
    assert len(LONGEST) == len({*LONGEST})


def test_the_longest_come_first_and_the_others_stay_in_their_order() -> None:
    names = ["tests/b.py::one", "tests/a.py::two", f"{LONGEST[1]}::three", f"{LONGEST[0]}::four", "tests/a.py::five"]
    items: list[pytest.Item] = [Item(name) for name in names]  # type: ignore[misc]
    words = [item.nodeid.split("::")[1] for item in longest_first(items)]
    assert words == ["four", "three", "one", "two", "five"]


def test_files_that_share_what_is_slow_to_start_stay_together() -> None:
    assert (
        unit_of("tests/jobs/test_batch.py::test") == unit_of("tests/jobs/test_traced.py::test[a::b]") == "tests/jobs/"
    )
    assert unit_of("tests/jobs/test_stream_crash.py::test") == "tests/jobs/test_stream_crash.py"
    assert unit_of("tests/platform/redis/test_feast_layout.py::t") == unit_of("tests/platform/redis/test_feast.py::t")
    assert unit_of("tests/unit/a.py::Test::test") == "tests/unit/a.py"
