"""The platform of a drill: everything `make up` starts, over a copy of a small shop, with a proxy before whatever can
be slowed down."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.worlds import World, prepare
from drills.proxy import Proxy
from parts.program import HOST, Program, Running, find, free_ports, running, start
from parts.stack import PARTS, PORTS, Stack
from winnow.errors import Unavailable

ROOT = Path("build/drill")
FACES = ("rest", "gateway")  # nobody stands before these: they are what is asked
SELF_ADDRESSED = ("kafka", "spark")  # Kafka's clients go where the broker says it is; nobody calls Spark
WARM_S = 120.0
ANSWER_S = 10.0
TUNING = {"WINNOW_CANDIDATES": "100"}  # of 2,000 items; a small machine ranks no 500 on Triton 50 times a second
IN_A_ROW = 5  # complete answers, before the platform counts as well again

Say = Callable[[str], None]


@dataclass
class Platform:
    """A running platform. `http` asks its REST face."""

    world: World
    stack: Stack
    programs: dict[str, Program]
    proxies: dict[str, Proxy]
    http: httpx.Client

    @property
    def home(self) -> Path:
        return self.stack.home

    def running(self, name: str) -> Running:
        found = find(self.programs[name])
        if found is None:
            raise Unavailable(f"{name} does not run")
        return found

    def processes(self) -> list[psutil.Process]:
        return [one.process for program in self.programs.values() if (one := find(program))]

    def kill(self, name: str) -> None:
        self.running(name).kill()

    def restart(self, name: str) -> None:
        """Start what ended, as whoever supervises it would; returns once it answers."""
        if find(self.programs[name]) is None:
            start(self.programs[name])

    def ask(self, user: str, **more: Any) -> httpx.Response:
        return self.http.post("/v1/recommendations", json={"user_id": user, "n": 10, **more})

    def missing(self, user: str) -> str:
        """What one answer lacks; "" when it is complete."""
        try:
            answer = self.ask(user)
        except httpx.TransportError as away:
            return str(away) or type(away).__name__
        return ", ".join(answer.json()["skipped"]) if answer.status_code == 200 else answer.text[:200]

    def well_again_s(self, limit_s: float = WARM_S) -> float:
        """Seconds until several answers in a row were complete; Unavailable when that takes longer than `limit_s`."""
        began, streak, missing = time.monotonic(), 0, ""
        while streak < IN_A_ROW:
            if time.monotonic() - began > limit_s:
                raise Unavailable(f"answers are not complete {limit_s:.0f} s later: {missing}")
            missing = self.missing(self.world.people[streak])
            streak = 0 if missing else streak + 1
            if missing:
                time.sleep(0.1)
        return time.monotonic() - began


@contextmanager
def platform(say: Say, parts: tuple[str, ...] = PARTS) -> Iterator[Platform]:
    """Start everything, and end all of it afterwards. What it keeps lies in build/drill/up until the next drill."""
    world = prepare("shop", ROOT, say)
    folder = ROOT / "up"
    shutil.rmtree(folder, ignore_errors=True)
    home = copied(world.home, folder / "home")
    names = [name for name in PORTS if name not in FACES and name not in SELF_ADDRESSED and name != "triton_http"]
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    through = dict(zip(names, free_ports(len(names)), strict=True))
    stack = Stack(folder.absolute(), home.absolute(), parts, ports, through, TUNING)
    with ExitStack() as opened:
        proxies = {name: opened.enter_context(Proxy(port, ports[name]).running()) for name, port in through.items()}
        waves = stack.waves()
        programs = {program.name: program for wave in waves for program in wave}
        for wave in filter(None, waves):
            say(f"starting {', '.join(program.name for program in wave)}")
            opened.enter_context(running(*wave))
        opened.callback(stop_all, programs)
        http = opened.enter_context(httpx.Client(base_url=f"http://{HOST}:{ports['rest']}", timeout=ANSWER_S))
        found = Platform(world, stack, programs, proxies, http)
        say(f"complete answers after {found.well_again_s():.1f} s")
        yield found


def stop_all(programs: dict[str, Program]) -> None:
    """Also what was started again during the drill."""
    for program in reversed(programs.values()):
        if (one := find(program)) is not None:
            one.stop()


def copied(source: Path, target: Path) -> Path:
    """A home of its own: a drill writes events. Bundles are read where the registry says they are."""
    target.mkdir(parents=True)
    for name in ("log", "mlartifacts", "bundles"):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
    for name in ("dataset.json", "mlflow.db"):
        shutil.copy(source / name, target / name)
    return target
