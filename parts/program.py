"""One program that runs in the background: start it, wait until it answers, freeze it, kill it, stop it.

What is started outlives this process unless it is stopped: a file beside its log says which process it is, so that
another command, later, finds the same one. Knows nothing of what the programs are.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from winnow.errors import Unavailable

HOST = "127.0.0.1"
POLL_S = 0.1
KILL_S = 5.0
LOG_LINES = 15
HELD: dict[int, ExitStack] = {}
"""Ports that this process keeps for programs until it ends."""

Probe = Callable[[], str]
"""Asks a program for a real answer: "" when it gives one, else why it does not. Never waits longer than a second."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. Its data, its log and the note on its process lie in `folder`; `env` is added to ours."""

    name: str
    command: tuple[str, ...]
    folder: Path
    ready: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    ready_s: float = 60.0
    stop_s: float = 20.0

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def note(self) -> Path:
        return self.folder / f"{self.name}.process.json"


class Running:
    """A program's process, with everything it started itself."""

    def __init__(self, program: Program, process: psutil.Process) -> None:
        self.program = program
        self.process = process

    def wait_until_ready(self) -> None:
        """Raises Unavailable with the end of the log when the program ends, or time runs out, before it answers."""
        until = time.monotonic() + self.program.ready_s
        while why := self.program.ready():
            if not alive(self.process):
                raise Unavailable(f"{self.program.name} ended at once:\n{tail(self.program.log)}")
            if time.monotonic() > until:
                raise Unavailable(
                    f"{self.program.name} does not answer after {self.program.ready_s:g} s ({why}):\n"
                    f"{tail(self.program.log)}"
                )
            time.sleep(POLL_S)

    def freeze(self) -> None:
        """SIGSTOP to all of it: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to all of it, as a power cut would end it; returns when nothing of it is left."""
        members = [self.process, *group_of(self.process.pid)]
        self._signal(signal.SIGKILL)
        self._wait(members)
        self.program.note.unlink(missing_ok=True)

    def stop(self) -> None:
        """SIGTERM to the process itself, and after `stop_s` SIGKILL to what is left of it."""
        self.thaw()
        if alive(self.process):
            self.process.terminate()
            with suppress(psutil.TimeoutExpired):
                self.process.wait(self.program.stop_s)
        self.kill()

    def _signal(self, number: int) -> None:
        """To the process group: whatever the program started belongs to it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _wait(self, members: list[psutil.Process]) -> None:
        """A signal is sent at once and takes effect a moment later, in each process for itself."""
        until = time.monotonic() + KILL_S
        while left := [process.pid for process in members if alive(process)]:
            if time.monotonic() > until:
                raise Unavailable(f"{self.program.name} (processes {left}) does not end")
            time.sleep(0.01)
        with suppress(psutil.TimeoutExpired):
            self.process.wait(0)  # where it is our child, take note of its end


def start(program: Program) -> Running:
    """Start and wait until ready; one that was started before and still runs is taken as it is."""
    there = launch(program)
    try:
        there.wait_until_ready()
    except BaseException:
        there.kill()
        raise
    return there


def launch(program: Program) -> Running:
    """Start without waiting; the same program again is the same process, and one with another command makes way."""
    there = find(program)
    if there is not None:
        if noted(program).get("command") == list(program.command):
            return there
        there.stop()
    program.folder.mkdir(parents=True, exist_ok=True)
    with program.log.open("ab") as log:
        begun = subprocess.Popen(
            program.command,
            cwd=program.folder,
            env={**os.environ, **program.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; a session of its own is also a group of its own
        )
    there = Running(program, psutil.Process(begun.pid))
    note = {"pid": begun.pid, "began": there.process.create_time(), "command": program.command}
    program.note.write_text(json.dumps(note), "utf-8")
    return there


def find(program: Program) -> Running | None:
    """The program's process, where one runs: the note's process id may belong to somebody else by now."""
    known = noted(program)
    try:
        process = psutil.Process(int(known["pid"]))
        if process.create_time() == known["began"] and alive(process):
            return Running(program, process)
    except (ValueError, KeyError, psutil.NoSuchProcess):
        pass
    return None


def noted(program: Program) -> dict[str, Any]:
    """What the note says; nothing where there is none that can be read."""
    try:
        known = json.loads(program.note.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


@contextmanager
def running(*programs: Program) -> Iterator[list[Running]]:
    """All of them, started side by side: none may need another to come up. Stopped in reverse."""
    with ExitStack() as stack:
        started = []
        for program in programs:
            started.append(launch(program))
            stack.callback(started[-1].stop)
        for one in started:
            one.wait_until_ready()
        yield started


def alive(process: psutil.Process) -> bool:
    """Not merely waiting for its parent to take note of its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def group_of(leader: int) -> list[psutil.Process]:
    """The processes of the leader's group, whether or not it still runs itself."""
    members = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == leader:
                members.append(process)
    return members


def tail(log: Path, lines: int = LOG_LINES) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def free_ports(n: int) -> list[int]:
    """Ports of nobody, all different, that stay so while this process lives: see `hold`."""
    return [hold(0) for _ in range(n)]


def port_near(wanted: int) -> int:
    """`wanted`, or any free port when another program has it; held as those of `free_ports` are."""
    [port] = ports_near([wanted])
    return port


def ports_near(wanted: Sequence[int]) -> list[int]:
    """Each as wanted, or any free port that nobody wants; all different where what is wanted is."""
    held: list[int | None] = []
    for port in wanted:
        try:
            held.append(hold(port))
        except OSError:
            held.append(None)
    return [hold(0) if port is None else port for port in held]


def hold(port: int) -> int:
    """Keep a port (0: any) for a program that is to listen there later; one that this process keeps already is given again.
    OSError when another process has it.

    Linux hands a port out again as soon as nobody has it, also as the near end of somebody's connection, and a program
    may need half a minute until it listens. A socket that is bound and does not listen keeps others from being given the
    port by chance; a server that sets SO_REUSEADDR, as servers do, may listen beside it, and until one does a
    connection is refused. Another process could keep the same port in the same way, were there not a name that only
    one of them can take. (Elsewhere nothing is kept: two sockets may not be bound to one port there.)
    """
    with ExitStack() as kept:
        place = kept.enter_context(socket.socket())
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((HOST, port))
        number: int = place.getsockname()[1]
        if sys.platform == "linux" and number not in HELD:
            name = kept.enter_context(socket.socket(socket.AF_UNIX))
            name.bind(f"\0winnow port {number}")  # in no file system: it goes with its process
            HELD[number] = kept.pop_all()
    return number
