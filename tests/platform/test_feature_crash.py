"""A feature service that is killed at any moment has every event that it acknowledged, each once."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.homes import small_home
from winnow import segments
from winnow.canonical import EVENTS
from winnow.home import events_folder

EVENTS_SENT = 3_000
KILLS = 6
MOST = 150  # acknowledged events that a round ends with; those of one write come together

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

    def __init__(self, home: Path, acknowledged: set[str], dies_of: int = 0) -> None:
        """`dies_of`: killed as soon as it has acknowledged so many; 0: it lives."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._acknowledged = acknowledged
        self._dies_of = dies_of
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for number, line in enumerate(self.process.stdout, 1):
            if line.endswith("\n"):
                self._acknowledged.add(line.strip())
            if number == self._dies_of:
                self.process.kill()

    def send(self, event_id: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(event_id + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Finish what was sent, unless it is dead already."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
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
    for _ in range(KILLS):
        unsaid = [f"{n}" for n in range(EVENTS_SENT) if f"{n}" not in acknowledged]
        service = Service(home, acknowledged, dies_of=1 + chance.randrange(MOST))
        with suppress(BrokenPipeError):
            for event_id in unsaid:
                service.send(event_id)
        service.end()
        interrupted += not acknowledged.issuperset(unsaid)
        found = recorded(home, imported)
        assert acknowledged <= set(found), "an acknowledged event is lost"
        assert len(found) == len(set(found)), "an event is there twice"
    assert interrupted >= KILLS // 2, "the kills came too late to prove anything"
    last = Service(home, acknowledged)
    for n in range(EVENTS_SENT):
        last.send(f"{n}")
    last.end()
    found = recorded(home, imported)
    assert sorted(found) == sorted(f"{n}" for n in range(EVENTS_SENT))


def recorded(home: Path, imported: int) -> list[str]:
    return [str(i) for i in segments.whole(events_folder(home), EVENTS)["event_id"].to_pylist()[imported:]]
