"""A step is done once for the same content, and again when content or result are gone."""

from pathlib import Path
from typing import Any

import pytest

from cli.stamps import Stamps, code, key_of


class Work:
    """Counts how often it was done."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return {"folder": f"made-{self.times}"}


def test_the_same_content_is_done_once(tmp_path: Path) -> None:
    work = Work()
    first = Stamps(tmp_path).once("train", "a", work, lambda _: True)
    again = Stamps(tmp_path).once("train", "a", work, lambda _: True)
    assert work.times == 1
    assert (first.skipped, again.skipped) == (False, True)
    assert again.result == {"folder": "made-1"}
    assert again.seconds == first.seconds


def test_other_content_is_done_again(tmp_path: Path) -> None:
    work = Work()
    for key in ("a", "b", "a"):
        assert not Stamps(tmp_path).once("train", key, work, lambda _: True).skipped
    assert work.times == 3


def test_a_result_that_is_gone_is_made_again(tmp_path: Path) -> None:
    work = Work()
    for _ in range(2):
        assert not Stamps(tmp_path).once("train", "a", work, lambda _: False).skipped
    assert work.times == 2


def test_a_step_that_fails_leaves_no_stamp(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stamps(tmp_path).once("train", "a", fail, lambda _: True)
    assert Stamps(tmp_path).read("train") is None


def test_a_key_depends_on_every_part_and_on_their_borders() -> None:
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("ab", "c", "")}) == 4
    assert len(code()) == 16
