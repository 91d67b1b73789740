"""Redis: Feast's online store, and the hot state of people."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from parts.program import HOST, Program
from winnow.errors import FailedPrecondition

PROBE_S = 1.0


def redis(folder: Path, port: int) -> Program:
    """Debian's server; it writes every change to disk within a second and reads it back at the next start."""
    server = shutil.which("redis-server")
    if server is None:
        raise FailedPrecondition("redis-server is missing; apt-get install redis-server")
    options = {
        "port": str(port),
        "bind": HOST,
        "dir": str(folder.absolute()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
    }
    command = [server, *(word for name, value in options.items() for word in (f"--{name}", value))]
    return Program("redis", tuple(command), folder, lambda: answers(port), ready_s=30.0)


def answers(port: int) -> str:
    """PING by hand: the probe of a part needs no client of it."""
    try:
        with socket.create_connection((HOST, port), PROBE_S) as connection:
            connection.settimeout(PROBE_S)
            connection.sendall(b"PING\r\n")
            said = connection.recv(64)
    except OSError as away:
        return str(away)
    return "" if said == b"+PONG\r\n" else said.decode(errors="replace").strip()
