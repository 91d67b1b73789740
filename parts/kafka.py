"""A local broker that speaks Kafka's protocol, for tests and `make up`; on a cluster Apache Kafka takes its place.

It writes what it holds as one snapshot now and then and when it is stopped by SIGTERM, so topics should stay small, and
a SIGKILL loses the newest records. Nothing that Winnow acknowledged is lost by that: see docs/adr/0006-event-log.md.
"""

from __future__ import annotations

import socket
import struct
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from parts.program import HOST, Program
from winnow.errors import FailedPrecondition

PROBE_S = 1.0
METADATA, VERSION, CORRELATION = 3, 1, 7
NO_TOPICS = 0
ASK = struct.pack(">hhihi", METADATA, VERSION, CORRELATION, -1, NO_TOPICS)  # -1: no client id
ANSWER = struct.Struct(">iii")  # bytes that follow, correlation, brokers
STOP_S = 60.0  # the snapshot of a large topic takes its time


def kafka(folder: Path, port: int) -> Program:
    """The broker on `port`; what it holds lies in `folder`."""
    data = str(folder.absolute() / "data")
    command = (str(broker()), "start", "--only", "kafka", "--kafka-port", str(port), "--host", HOST, "--data-dir", data)
    return Program("kafka", command, folder, lambda: answers(port), ready_s=30.0, stop_s=STOP_S)


def broker() -> Path:
    """The program itself: the command that its package puts before it does not pass SIGTERM on."""
    try:
        files = Distribution.from_name("noida-db").files or []
    except PackageNotFoundError as missing:
        raise FailedPrecondition("noida-db is missing; make setup installs it") from missing
    [found] = [Path(str(file.locate())) for file in files if (file.parent.name, file.stem) == ("noida_db", "noida-db")]
    found.chmod(0o755)  # a wheel need not say that it can be run
    return found


def answers(port: int) -> str:
    """A metadata request by hand: the probe of a part needs no client of it."""
    try:
        with socket.create_connection((HOST, port), PROBE_S) as connection:
            connection.settimeout(PROBE_S)
            connection.sendall(struct.pack(">i", len(ASK)) + ASK)
            said = connection.recv(ANSWER.size, socket.MSG_WAITALL)
    except OSError as away:
        return str(away)
    if len(said) < ANSWER.size:
        return "it hung up on a metadata request"
    _, correlation, brokers = ANSWER.unpack(said)
    return "" if correlation == CORRELATION and brokers > 0 else "it knows no broker yet"
