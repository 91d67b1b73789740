"""A feature service that is killed at any moment has every event that it acknowledged, each once."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.homes import small_home
from winnow import segments
from winnow.canonical import EVENTS
from winnow.home import events_folder

EVENTS_SENT = 1_000
KILLS = 6

DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.events import click, features

async def main():
    service = features(Path(sys.argv[1]))
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async def one(event_id):
        await service.record([click(event_id, "i" + event_id)])
        print(event_id, flush=True)
    waiting = set()
    while line := await lines.readline():
        waiting.add(asyncio.create_task(one(line.decode().strip())))
    await asyncio.gather(*waiting)
    await service.close()

asyncio.run(main())
"""


class Service:
    """The service in a process of its own; ids written to it come back when they are acknowledged."""

    def __init__(self, home: Path, acknowledged: set[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._acknowledged = acknowledged
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self._acknowledged.add(line.strip())

    def send(self, event_id: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(event_id + "\n")
        self.process.stdin.flush()

    def end(self, *, kill: bool) -> None:
        if kill:
            self.process.kill()
        else:
            assert self.process.stdin is not None
            self.process.stdin.close()
        self.process.wait(60)
        self._reader.join(60)


@pytest.mark.platform
@pytest.mark.timeout(180)
def test_what_was_acknowledged_is_there_once_after_kills_at_random(tmp_path: Path) -> None:
    home = small_home(tmp_path / "home")
    imported = segments.whole(events_folder(home), EVENTS).num_rows
    chance = random.Random(7)
    acknowledged: set[str] = set()
    interrupted = 0
    for round_ in range(KILLS):
        before = set(acknowledged)
        service = Service(home, acknowledged)
        service.send("warm-up-" + str(round_))
        wait_for(acknowledged, len(before) + 1)
        todo = [f"{n}" for n in range(EVENTS_SENT) if f"{n}" not in acknowledged]
        killer = threading.Timer(chance.uniform(0.0, 0.15), service.process.kill)
        killer.start()
        for event_id in todo:
            try:
                service.send(event_id)
            except BrokenPipeError:
                break
        killer.join()
        service.end(kill=True)
        interrupted += len(acknowledged) < EVENTS_SENT
        found = recorded(home, imported)
        assert acknowledged <= set(found), "an acknowledged event is lost"
        assert len(found) == len(set(found)), "an event is there twice"
    assert interrupted >= KILLS // 2, "the kills came too late to prove anything"
    last = Service(home, acknowledged)
    for n in range(EVENTS_SENT):
        last.send(f"{n}")
    last.end(kill=False)
    found = recorded(home, imported)
    assert sorted(found) == sorted({f"{n}" for n in range(EVENTS_SENT)} | {f"warm-up-{n}" for n in range(KILLS)})


def recorded(home: Path, imported: int) -> list[str]:
    return [str(i) for i in segments.whole(events_folder(home), EVENTS)["event_id"].to_pylist()[imported:]]


def wait_for(acknowledged: set[str], count: int) -> None:
    until = time.monotonic() + 60
    while len(acknowledged) < count:
        assert time.monotonic() < until, "the service does not answer"
        time.sleep(0.01)
