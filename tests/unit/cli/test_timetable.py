"""When jobs are due: on their own grid, whatever the turns before took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cli.timetable import Job, first_due, next_of

NOW = 1_800_000_000.0


def job(name: str = "refresh", every_s: float = 900.0, due: float = NOW) -> Job:
    return Job(name, (name,), every_s, 60.0, due)


@given(st.floats(1.0, 1e6), st.floats(0.0, 1e7))
def test_a_turn_that_begins_late_changes_no_later_one(every_s: float, late_s: float) -> None:
    following = job(every_s=every_s).after(NOW + late_s)
    assert following.due > NOW + late_s - 1e-3 * every_s
    assert following.due - (NOW + late_s) <= every_s * 1.001
    steps = (following.due - NOW) / every_s
    assert abs(steps - round(steps)) < 1e-3


def test_missed_turns_are_made_up_for_once() -> None:
    assert job().after(NOW + 4 * 900 + 10).due == NOW + 5 * 900


def test_a_restart_neither_repeats_a_turn_nor_puts_it_off() -> None:
    assert first_due(86_400, NOW - 3_600, NOW, at_once=False) == NOW + 82_800
    assert first_due(86_400, NOW - 100_000, NOW, at_once=False) == NOW
    assert first_due(86_400, None, NOW, at_once=False) == NOW + 86_400
    assert first_due(900, None, NOW, at_once=True) == NOW
    assert first_due(86_400, NOW + 1e6, NOW, at_once=True) == NOW, "a clock that was set back"


def test_the_first_named_goes_first_where_several_are_due() -> None:
    jobs = [job("refresh"), job("retrain"), job("ranking", due=NOW - 1)]
    assert next_of(jobs).name == "ranking"
    assert next_of(jobs[:2]).name == "refresh"
