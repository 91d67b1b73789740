"""Who is shown in the demo."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.people import three_people
from tests.events import click
from winnow.canonical import event_table
from winnow.errors import FailedPrecondition
from winnow.home import events_folder
from winnow.segments import segment_path
from winnow.types import Event


def home(folder: Path, events: list[Event]) -> Path:
    path = segment_path(events_folder(folder), "import", 1)
    path.parent.mkdir(parents=True)
    pq.write_table(event_table(events), path)
    return folder


def acts(person: str, items: int, **more: str) -> list[Event]:
    return [
        click(f"{person}-{n}", f"i{n}", person if "session_id" not in more else "", n, **more) for n in range(items)
    ]


def test_heavy_acted_on_most_and_light_on_least(tmp_path: Path) -> None:
    people = three_people(home(tmp_path, [*acts("a", 3), *acts("b", 15), *acts("c", 9), *acts("all", 30)]))
    assert [person.user_id for person in people.values()] == ["b", "a", "newcomer-0"]


def test_who_has_seen_nearly_everything_is_not_shown(tmp_path: Path) -> None:
    people = three_people(home(tmp_path, [*acts("everything", 40), *acts("much", 30), *acts("little", 2)]))
    assert people["heavy"].user_id == "much"


def test_an_unknown_person_is_nobody_of_the_data(tmp_path: Path) -> None:
    people = three_people(home(tmp_path, [*acts("newcomer-0", 1), *acts("newcomer-1", 2), *acts("x", 20)]))
    assert people["unknown"].user_id == "newcomer-2"


def test_a_set_of_sessions_shows_sessions(tmp_path: Path) -> None:
    events = [event for name in ("s1", "s2") for event in acts(name, 5 if name == "s1" else 3, session_id=name)]
    people = three_people(home(tmp_path, [*events, *acts("s3", 20, session_id="s3")]))
    assert [(person.user_id, person.session_id) for person in people.values()] == [
        ("", "s1"),
        ("", "s2"),
        ("", "newcomer-0"),
    ]


def test_too_few_people_are_told(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="too few"):
        three_people(home(tmp_path, acts("alone", 20)))
