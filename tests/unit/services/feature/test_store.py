"""The feature service and training know the same of a person, at any moment and after any restart."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events import features, parts
from tests.homes import event_lists, small_home
from training.dataset import load
from winnow.candidate_features import ACTED, candidate_names, candidate_numbers
from winnow.errors import FailedPrecondition
from winnow.features import UserView
from winnow.seen import fingerprints
from winnow.types import Candidates, Context, Event, EventType, Person, UserState, strings


@pytest.fixture(scope="module")
def empty_shop() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield small_home(Path(folder) / "home")


def copy(home: Path) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    for file in home.rglob("*"):
        if file.is_file() and file.name != ".lock":
            target = Path(folder.name) / file.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return folder


def person_of(event: Event) -> Person:
    return Person(user_id=event.user_id) if event.user_id else Person(session_id=event.session_id)


EVERYONE = [*(Person(user_id=u) for u in ("u1", "u2", "new")), *(Person(session_id=s) for s in ("s1", "s2", "s3"))]


@settings(max_examples=25, deadline=None)
@given(events=event_lists(in_order=False), cut=st.integers(1, 7))
def test_a_restart_and_training_know_what_the_running_service_knows(
    empty_shop: Path, events: list[Event], cut: int
) -> None:
    async def run(home: Path) -> tuple[list[UserState], list[UserState]]:
        service = features(home)
        for start in range(0, len(events), cut):
            await service.record(events[start : start + cut])
        running = await service.users(EVERYONE)
        await service.close()
        again = features(home)
        restarted = await again.users(EVERYONE)
        await again.close()
        return running, restarted

    with copy(empty_shop) as folder:
        running, restarted = asyncio.run(run(Path(folder)))
        dataset = load(Path(folder))
    assert [parts(state) for state in running] == [parts(state) for state in restarted]
    assert [state.watermark for state in running] == [state.watermark for state in restarted]
    row = {person: n for n, person in enumerate(dataset.people)}
    for state, person in zip(running, EVERYONE, strict=True):
        if person in row:
            assert parts(dataset.state(row[person], len(dataset.acts))) == parts(state)
        else:
            assert not state.events


@settings(max_examples=25, deadline=None)
@given(events=event_lists(in_order=True))
def test_training_sees_before_each_act_what_the_service_answered_then(empty_shop: Path, events: list[Event]) -> None:
    async def run(home: Path) -> list[tuple[Event, UserState]]:
        service = features(home)
        answers = []
        for event in events:
            if event.type is not EventType.IMPRESSION:
                answers.append((event, (await service.users([person_of(event)]))[0]))
            await service.record([event])
        await service.close()
        return answers

    with copy(empty_shop) as folder:
        answers = asyncio.run(run(Path(folder)))
        dataset = load(Path(folder))
    first = len(dataset.acts) - len(answers)
    for index, (event, answer) in enumerate(answers, first):
        row = int(dataset.acts.user[index])
        assert dataset.people[row] == person_of(event)
        assert parts(dataset.state(row, index)) == parts(answer)
        assert acted(dataset.state(row, index), event).tobytes() == acted(answer, event).tobytes()
        assert dataset.state(row, index).watermark <= answer.watermark


def acted(state: UserState, event: Event) -> npt.NDArray[np.float32]:
    """What a ranker would be told of items that the person may have acted on, at the moment of an event."""
    asked = strings(["i1", "i2", "i3", "i4", "never heard of", "i5"])
    candidates = Candidates(asked, np.zeros(6, np.uint32), np.zeros((6, 0), np.float32), ())
    view = UserView(state, Context(at=event.occurred_at), {}.get)
    return candidate_numbers(candidates, candidate_names((), ACTED), view)


def test_a_home_is_served_by_one_process_at_a_time(empty_shop: Path) -> None:
    with copy(empty_shop) as folder:
        service = features(Path(folder))
        with pytest.raises(FailedPrecondition, match="another process"):
            features(Path(folder))
        asyncio.run(service.close())
        asyncio.run(features(Path(folder)).close())


def test_a_home_whose_ingestion_was_interrupted_is_refused(empty_shop: Path) -> None:
    with copy(empty_shop) as folder:
        (Path(folder) / "dataset.json").unlink()
        with pytest.raises(FailedPrecondition, match="interrupted"):
            features(Path(folder))


def test_a_service_starts_on_nothing_at_all(tmp_path: Path) -> None:
    async def run() -> None:
        service = features(tmp_path)
        assert (await service.catalogue(0, 10)).items == ()
        assert not (await service.users([Person(user_id="u")]))[0].known
        await service.close()

    asyncio.run(run())


def test_the_seen_tail_suppresses_few_items_falsely(capsys: pytest.CaptureFixture[str]) -> None:
    catalogue, seen = 1_000_000, 10_000
    names = np.random.default_rng(1).integers(0, 2**63, catalogue)
    prints = fingerprints(f"{name:x}" for name in names)
    wrong = [
        int(np.isin(prints[start + seen :], prints[start : start + seen]).sum())
        + int(np.isin(prints[:start], prints[start : start + seen]).sum())
        for start in range(0, catalogue, catalogue // 20)
    ]
    with capsys.disabled():
        print(f"\nfalsely suppressed of {catalogue:,} items, {seen:,} seen: {np.mean(wrong):.2f} (expected 2.30)")
    assert 1.0 <= np.mean(wrong) <= 4.0
