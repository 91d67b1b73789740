"""The log keeps what it acknowledged, whatever happens to its end, and says so when its middle is damaged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events import START
from winnow import segments
from winnow.canonical import EVENTS, event_of, event_row
from winnow.errors import FailedPrecondition, PayloadTooLarge, Unavailable
from winnow.eventlog import Log, held
from winnow.segments import FRAME, HEADER, MAX_FRAME_BYTES, Damaged, Row
from winnow.types import Event, EventType

SEGMENT = 600  # bytes


def row(event_id: str) -> Row:
    at = START + timedelta(microseconds=int(event_id))
    return event_row(
        Event(event_id, EventType.CART, "i", at, user_id="ü", value=1.25, quantity=3, context={"a": "b", "c": ""})
    )


def rows(first: int, count: int) -> list[Row]:
    return [row(str(n)) for n in range(first, first + count)]


def ids(folder: Path) -> list[str]:
    return [str(found) for found in segments.whole(folder, EVENTS)["event_id"].to_pylist()]


async def written(folder: Path, calls: list[int], *, at_once: bool = False) -> list[int]:
    """Append that many rows per call; the positions answered."""
    log = Log(folder, EVENTS, segment_bytes=SEGMENT)
    starts = [log.position + 1 + sum(calls[:n]) for n in range(len(calls))]
    waiting = [log.append(rows(start, count)) for start, count in zip(starts, calls, strict=True)]
    found = await asyncio.gather(*waiting) if at_once else [await one for one in waiting]
    await log.close()
    return list(found)


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    asyncio.run(written(tmp_path, [3]))
    [table] = segments.read(tmp_path, EVENTS)
    assert [event_row(event_of(found)) for found in table.to_pylist()] == rows(1, 3)


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(st.integers(1, 4), min_size=1, max_size=12), at_once=st.booleans(), cut=st.integers(0, 400))
def test_a_torn_end_is_cut_and_nothing_else(calls: list[int], at_once: bool, cut: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        positions = asyncio.run(written(folder, calls, at_once=at_once))
        assert positions == [sum(calls[: n + 1]) for n in range(len(calls))]
        last = segments.segments(folder)[-1]
        content = last.path.read_bytes()
        ends = [HEADER.size]
        while frame := segments.frame_at(content, ends[-1]):
            ends.append(frame.end)
        kept = max(len(content) - cut, 0)
        last.path.write_bytes(content[:kept])
        sound = [end for end in ends if end <= kept]
        lost = sum(f.rows for end in ends[max(len(sound) - 1, 0) : -1] if (f := segments.frame_at(content, end)))
        survivors = sum(calls) - lost
        assert ids(folder) == [str(n) for n in range(1, survivors + 1)]
        assert asyncio.run(written(folder, [2])) == [survivors + 2]
        assert ids(folder) == [str(n) for n in range(1, survivors + 3)]


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_damage_before_the_last_frame_is_reported_with_its_place(place: float, flip: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(written(folder, [1] * 12))
        files = sorted(folder.glob("live-*"))
        assert len(files) > 1
        target = files[0]
        content = bytearray(target.read_bytes())
        content[int(place * len(content))] ^= flip
        target.write_bytes(content)
        with pytest.raises(Damaged, match=target.name):
            Log(folder, EVENTS)
        with pytest.raises(Damaged, match=target.name):
            ids(folder)
        assert target.read_bytes() == content


def test_damage_inside_the_newest_file_is_not_taken_for_a_torn_end(tmp_path: Path) -> None:
    asyncio.run(written(tmp_path, [1, 1, 1]))
    [file] = tmp_path.glob("live-*")
    content = bytearray(file.read_bytes())
    content[HEADER.size + FRAME.size + 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(Damaged, match="position 1"):
        Log(tmp_path, EVENTS)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    asyncio.run(written(tmp_path, [1] * 30))
    files = sorted(tmp_path.glob("live-*"))
    files[1].unlink()
    with pytest.raises(Damaged, match=files[2].name):
        Log(tmp_path, EVENTS)


def test_calls_at_the_same_time_share_a_frame(tmp_path: Path) -> None:
    asyncio.run(written(tmp_path, [1] * 200, at_once=True))
    frames = sum(file.read_bytes().count(b"WFR\n") for file in tmp_path.glob("live-*"))
    assert ids(tmp_path) == [str(n) for n in range(1, 201)]
    assert frames <= 3


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(FailedPrecondition, match="another process"):
        Log(tmp_path, EVENTS)
    asyncio.run(written(tmp_path, [1]))


def test_a_closed_log_refuses(tmp_path: Path) -> None:
    async def run() -> None:
        log = Log(tmp_path, EVENTS)
        await log.close()
        with pytest.raises(Unavailable):
            await log.append(rows(1, 1))

    asyncio.run(run())


def test_a_call_larger_than_a_frame_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        log = Log(tmp_path, EVENTS)
        with pytest.raises(PayloadTooLarge):
            await log.append([{"event_id": "x" * MAX_FRAME_BYTES}])
        assert await log.append(rows(1, 1)) == 1
        await log.close()

    asyncio.run(run())


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from tests.unit.winnow.test_eventlog import rows
from winnow import segments
from winnow.canonical import EVENTS
from winnow.errors import DiskFull
from winnow.eventlog import Log

async def run():
    log = Log(Path(sys.argv[1]), EVENTS)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500, resource.RLIM_INFINITY))
    taken, refused = 0, 0
    for n in range(20):
        try:
            await log.append(rows(taken + 1, 1))
            taken += 1
        except DiskFull:
            refused += 1
            [file] = Path(sys.argv[1]).glob("live-*")
            assert segments.scan(file, last=True).end == file.stat().st_size, "half a frame is left"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await log.append(rows(taken + 1, 1))
    await log.close()
    print(taken + 1, refused)

asyncio.run(run())
"""


def test_a_full_disk_refuses_leaves_nothing_half_written_and_recovers(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    taken, refused = map(int, ran.stdout.split())
    assert taken > 2
    assert refused > 5
    assert ids(tmp_path) == [str(n) for n in range(1, taken + 1)]
