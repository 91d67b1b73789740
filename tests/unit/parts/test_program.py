"""Programs in the background: found again, frozen, killed, stopped, and their failures told."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from parts.program import HELD, HOST, Program, alive, find, free_ports, port_near, ports_near, running, start
from winnow.errors import Unavailable

PORT_RANGE = 51
"""IP_LOCAL_PORT_RANGE of Linux 6.3: the ports a socket may be given, the last one's in the upper half."""
SERVER = """
import socket, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        connection, _ = server.accept()
        connection.sendall(b"here")
        connection.close()
"""


def answers(port: int) -> str:
    try:
        with socket.create_connection((HOST, port), 0.5) as connection:
            connection.settimeout(0.5)
            return "" if connection.recv(4) == b"here" else "said something else"
    except OSError as away:
        return str(away)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    [port] = free_ports(1)
    command = (sys.executable, "-c", SERVER, str(port))
    return Program("server", command, tmp_path / "server", lambda: answers(port), ready_s=20.0, stop_s=5.0)


def child_of(program: Program) -> psutil.Process:
    return psutil.Process(int(program.log.read_text().split()[-1]))


def test_a_program_runs_until_it_is_stopped_and_leaves_nothing_behind(program: Program) -> None:
    with running(program) as [server]:
        child = child_of(program)
        assert program.ready() == ""
        assert alive(child)
    assert not alive(server.process)
    assert not alive(child)
    assert find(program) is None


def test_what_runs_already_is_found_and_not_started_twice(program: Program) -> None:
    with running(program) as [server]:
        again = start(program)
        assert again.process.pid == server.process.pid


def test_a_note_on_somebody_elses_process_is_not_believed(program: Program) -> None:
    program.folder.mkdir()
    program.note.write_text('{"pid": 1, "began": 1.0}')
    assert find(program) is None
    program.note.write_text("half a no")
    assert find(program) is None


def test_a_program_with_another_command_makes_way(program: Program) -> None:
    [port] = free_ports(1)
    other = replace(program, command=(*program.command[:-1], str(port)), ready=lambda: answers(port))
    with running(program) as [server], running(other) as [next_one]:
        assert not alive(server.process)
        assert alive(next_one.process)


def test_a_frozen_program_does_not_answer_and_a_thawed_one_does(program: Program) -> None:
    with running(program) as [server]:
        server.freeze()
        assert program.ready()
        server.thaw()
        assert program.ready() == ""


def test_a_frozen_program_can_be_stopped(program: Program) -> None:
    with running(program) as [server]:
        server.freeze()
    assert not alive(server.process)


def test_a_killed_program_can_be_started_again(program: Program) -> None:
    with running(program) as [server]:
        server.kill()
        assert program.ready()
        with running(program) as [again]:
            assert again.process.pid != server.process.pid
            assert program.ready() == ""


def test_a_program_that_ends_at_once_says_its_last_words(tmp_path: Path) -> None:
    words = Program("words", (sys.executable, "-c", "print('no such disk')"), tmp_path, lambda: "nobody there")
    with pytest.raises(Unavailable, match="no such disk"):
        start(words)


def test_a_program_that_never_answers_is_ended(tmp_path: Path) -> None:
    mute = Program("mute", (sys.executable, "-c", "import time; time.sleep(60)"), tmp_path, lambda: "mute", ready_s=0.5)
    with pytest.raises(Unavailable, match="does not answer"):
        start(mute)
    assert find(mute) is None


def test_a_port_is_kept_until_its_program_listens() -> None:
    [port] = free_ports(1)
    assert port_near(port) == port
    with only(port) as somebody, pytest.raises(OSError, match="in use"):
        somebody.bind((HOST, 0))
    with socket.create_server((HOST, 0)) as server, only(port) as caller, pytest.raises(OSError, match="assign"):
        caller.connect(server.getsockname())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), 0.5)
    with socket.create_server((HOST, port)):
        assert port_near(port) != port
        socket.create_connection((HOST, port), 0.5).close()


def test_a_port_that_nobody_keeps_is_given_away() -> None:
    [port] = free_ports(1)
    HELD.pop(port).close()
    with only(port) as somebody:
        somebody.bind((HOST, 0))
        assert somebody.getsockname()[1] == port
        assert port_near(port) != port


def test_a_port_that_is_wanted_stands_in_for_none_that_is_taken() -> None:
    wanted = free_ports(2)
    with socket.create_server((HOST, 0)) as server:
        taken: int = server.getsockname()[1]
        other, *same = ports_near([taken, *wanted])
    assert same == wanted
    assert other not in (taken, *wanted)


def test_two_processes_do_not_keep_the_same_port() -> None:
    port = next(n for n in range(20_000, 30_000) if port_near(n) == n)  # the system gives none of these away
    asking = "import sys; from parts.program import port_near; print(port_near(int(sys.argv[1])))"
    other = subprocess.run([sys.executable, "-c", asking, str(port)], stdout=subprocess.PIPE, check=True, timeout=60)
    assert int(other.stdout) != port
    HELD.pop(port).close()
    other = subprocess.run([sys.executable, "-c", asking, str(port)], stdout=subprocess.PIPE, check=True, timeout=60)
    assert int(other.stdout) == port


def only(port: int) -> socket.socket:
    """A socket that the system can give this port alone."""
    one = socket.socket()
    try:
        one.setsockopt(socket.IPPROTO_IP, PORT_RANGE, struct.pack("=I", port << 16 | port))
    except OSError:
        one.close()
        pytest.skip("what ports a socket may be given cannot be said before Linux 6.3")
    return one
