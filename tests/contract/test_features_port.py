"""What every Features must keep, however it is wired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.events import click, features, parts
from tests.homes import small_home
from tests.wirings import over_grpc
from winnow.errors import InvalidArgument, PayloadTooLarge
from winnow.image_vectors import packed
from winnow.ports import Features
from winnow.seen import EXACT, fingerprints
from winnow.types import HISTORY, MAX_EVENTS, CataloguePage, EventType, Item, Person

Opened = AbstractAsyncContextManager[Features]


@asynccontextmanager
async def near(home: Path) -> AsyncIterator[Features]:
    service = features(home)
    try:
        yield service
    finally:
        await service.close()


WIRINGS: dict[str, Callable[[Path], Opened]] = {"near": near}
"""How to open a home: each gives the port and closes it."""


@pytest.fixture(params=list(WIRINGS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Opened]:
    """Opens the same home again and again."""
    home = small_home(tmp_path / "home")
    return lambda: WIRINGS[request.param](home)


async def everything(port: Features, limit: int = 7) -> list[Item]:
    found: list[Item] = []
    page = CataloguePage((), 0, True)
    while page.more:
        page = await port.catalogue(page.watermark, limit)
        found.extend(page.items)
    return found


async def test_a_person_nobody_has_heard_of_is_unknown_and_no_error(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        [state] = await port.users([Person(user_id="nobody")])
    assert not state.known
    assert len(state.history) == len(state.seen) == state.events == 0


async def test_people_are_answered_in_the_order_asked(opened: Callable[[], Opened]) -> None:
    people = [Person(user_id=f"u{n}") for n in (3, 99, 0, 3)]
    async with opened() as port:
        states = await port.users(people)
    assert [state.person for state in states] == people
    assert [state.known for state in states] == [True, False, True, True]
    assert states[0].traits["country"]


async def test_an_acknowledged_event_is_in_the_very_next_answer(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        for n in range(5):
            receipt = await port.record([click(f"e-{n}", f"new{n}", minute=n)])
            [state] = await port.users([Person(user_id="u1")])
            assert state.history.item_ids[-1] == f"new{n}"
            assert state.seen[-1] == f"new{n}"
            assert state.watermark >= receipt.watermark
            assert (receipt.accepted, receipt.duplicates) == (1, 0)


async def test_an_event_sent_twice_counts_once_in_a_call_across_calls_and_after_a_restart(
    opened: Callable[[], Opened],
) -> None:
    async with opened() as port:
        [before] = await port.users([Person(user_id="u1")])
        first = await port.record([click("e-1"), click("e-1"), click("e-2")])
        again = await port.record([click("e-2"), click("e-3")])
    async with opened() as port:
        later = await port.record([click("e-1"), click("e-3")])
        [after] = await port.users([Person(user_id="u1")])
    assert [(r.accepted, r.duplicates) for r in (first, again, later)] == [(2, 1), (1, 1), (0, 2)]
    assert after.events == before.events + 3


async def test_an_imported_event_is_known_by_its_id(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        receipt = await port.record([click("e0"), click("e399"), click("e400")])
    assert (receipt.accepted, receipt.duplicates) == (1, 2)


async def test_calls_at_the_same_time_with_the_same_events_take_each_once(opened: Callable[[], Opened]) -> None:
    events = [click(f"e-{n}", minute=n) for n in range(20)]
    async with opened() as port:
        [before] = await port.users([Person(user_id="u1")])
        receipts = await asyncio.gather(*(port.record(events[n % 5 :]) for n in range(30)))
        [after] = await port.users([Person(user_id="u1")])
    assert sum(receipt.accepted for receipt in receipts) == 20
    assert after.events == before.events + 20


async def test_an_impression_is_no_act(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        [before] = await port.users([Person(user_id="u1")])
        await port.record([click("e-1", "shown", type=EventType.IMPRESSION)])
        [after] = await port.users([Person(user_id="u1")])
    assert parts(before) == parts(after)


async def test_history_is_the_newest_acts_by_time_and_a_late_event_finds_its_place(
    opened: Callable[[], Opened],
) -> None:
    events = [click(f"e-{n}", f"new{n}", user_id="fresh", minute=n) for n in range(HISTORY + 10)]
    late = click("late", "late", user_id="fresh", minute=HISTORY + 8.5)
    async with opened() as port:
        await port.record([*events[1::2], *events[::2]])
        await port.record([late])
        [state] = await port.users([Person(user_id="fresh")])
    assert list(state.history.item_ids[-3:]) == ["new58", "late", "new59"]
    assert len(state.history) == HISTORY
    assert state.events == HISTORY + 11


async def test_seen_is_exact_lately_and_fingerprints_before(opened: Callable[[], Opened]) -> None:
    events = [click(f"e-{n}", f"new{n}", user_id="fresh", minute=n) for n in range(EXACT + 50)]
    again = click("again", "new0", user_id="fresh", minute=EXACT + 50)
    async with opened() as port:
        await port.record([*events, again])
        [state] = await port.users([Person(user_id="fresh")])
    assert list(state.seen) == [*(f"new{n}" for n in range(51, EXACT + 50)), "new0"]
    assert state.seen_tail.tolist() == sorted(fingerprints(f"new{n}" for n in range(1, 51)).tolist())


async def test_a_session_joins_its_user_and_stays_there_after_a_restart(opened: Callable[[], Opened]) -> None:
    anonymous = [click(f"e-{n}", f"new{n}", user_id="", session_id="s", minute=n) for n in range(3)]
    async with opened() as port:
        await port.record(anonymous)
        [alone] = await port.users([Person(session_id="s")])
        await port.record([click("login", "new3", user_id="u1", session_id="s", minute=3)])
        now = await port.users([Person(user_id="u1"), Person(session_id="s")])
        await port.record([click("after", "new4", user_id="", session_id="s", minute=4)])
        later = await port.users([Person(user_id="u1"), Person(session_id="s")])
    async with opened() as port:
        restarted = await port.users([Person(user_id="u1"), Person(session_id="s")])
    assert list(alone.history.item_ids) == ["new0", "new1", "new2"]
    for user, session in (now, later, restarted):
        assert list(user.history.item_ids) == list(session.history.item_ids)
        assert session.person == Person("u1", "s")
    assert list(now[0].history.item_ids[-4:]) == ["new0", "new1", "new2", "new3"]
    assert list(later[0].history.item_ids[-2:]) == ["new3", "new4"]
    assert list(map(parts, later)) == list(map(parts, restarted))


async def test_a_request_with_both_ids_sees_both_histories_before_any_event_joins_them(
    opened: Callable[[], Opened],
) -> None:
    async with opened() as port:
        await port.record([click("e-1", "new1", user_id="", session_id="s"), click("e-2", "new2", user_id="u9")])
        both, user, session = await port.users(
            [Person("u9", "s"), Person(user_id="u9"), Person(session_id="s")],
        )
    assert {"new1", "new2"} <= set(both.seen)
    assert "new1" not in user.seen
    assert list(session.seen) == ["new1"]


async def test_items_come_in_the_order_written_the_newest_version_only(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        before = await everything(port)
        receipt = await port.put_items([Item("fresh", "A"), replace(before[4], title="Changed"), Item("fresh", "B")])
        await port.put_items([Item("fresh", "C")])
        after = await everything(port)
        page = await port.catalogue(receipt.watermark, 100)
    async with opened() as port:
        restarted = await everything(port, limit=1)
    assert [item.item_id for item in before] == [f"i{n}" for n in range(60)]
    assert [item.item_id for item in after][-3:] == ["i59", "i4", "fresh"]
    assert after[-2].title == "Changed"
    assert [item.title for item in page.items] == ["C"]
    assert after == restarted


async def test_vectors_of_images_come_to_those_who_ask_before_and_after_a_restart(opened: Callable[[], Opened]) -> None:
    seen = Item("seen", image_vector=packed([0.5, -2.0]))
    async with opened() as port:
        first = await port.put_items([seen, Item("unseen")])
        again = await port.put_items([seen])
        changed = await port.put_items([replace(seen, image_vector=packed([0.5, -2.5])), seen])
        now = [await port.catalogue(60, 10, images) for images in (True, False)]
    async with opened() as port, over_grpc("feature", port) as far:
        restarted = [await far.catalogue(60, 10, images) for images in (True, False)]
    assert (first.accepted, again.accepted, changed.accepted) == (2, 0, 0)
    for with_images, without in (now, restarted):
        assert {item.item_id: item for item in with_images.items} == {"seen": seen, "unseen": Item("unseen")}
        assert not any(item.image_vector for item in without.items)


async def test_an_item_that_says_nothing_new_is_not_written_again(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        [old, *_] = await everything(port)
        first = await port.put_items([Item("fresh", "A"), old])
        again = await port.put_items([Item("fresh", "A")])
    assert (first.accepted, first.duplicates, first.watermark) == (1, 1, 61)
    assert (again.accepted, again.duplicates, again.watermark) == (0, 1, 61)


async def test_a_follower_of_another_log_starts_again(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        page = await port.catalogue(10_000, 100)
    assert len(page.items) == 60


async def test_limits_are_refused_with_their_field(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        with pytest.raises(PayloadTooLarge, match="events"):
            await port.record([click(f"e-{n}") for n in range(MAX_EVENTS + 1)])
        with pytest.raises(InvalidArgument) as refused:
            await port.catalogue(-1, 10)
    assert refused.value.field == "after"


async def test_it_is_ready(opened: Callable[[], Opened]) -> None:
    async with opened() as port:
        assert (await port.ready()).ready
