"""A local broker that speaks Kafka's protocol, for tests and `make up`; on a cluster Apache Kafka takes its place.

It writes what it holds as one snapshot now and then and when it is stopped by SIGTERM, so topics should stay small, and
a SIGKILL loses the newest records. Nothing that Winnow acknowledged is lost by that: see docs/adr/0006-event-log.md.
"""

from __future__ import annotations

import shutil
import socket
import struct
import sys
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
    broker = shutil.which("noida-db", path=str(Path(sys.executable).parent)) or shutil.which("noida-db")
    if broker is None:
        raise FailedPrecondition("noida-db is missing; make setup installs it")
    data = str(folder.absolute() / "data")
    command = (broker, "start", "--only", "kafka", "--kafka-port", str(port), "--host", HOST, "--data-dir", data)
    return Program("kafka", command, folder, lambda: answers(port), ready_s=30.0, stop_s=STOP_S)


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
