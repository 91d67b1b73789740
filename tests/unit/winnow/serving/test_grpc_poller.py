"""The setting of gRPC that this package makes is one that the installed gRPC knows, and comes before gRPC reads it."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import asyncio, winnow.serving.serve as serving
async def once():
    server = await serving.serve_grpc([], "127.0.0.1:0")
    await server.stop()
asyncio.run(once())
"""


def said(experiments: str | None) -> str:
    env = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    env |= {"GRPC_VERBOSITY": "ERROR"} | ({} if experiments is None else {"GRPC_EXPERIMENTS": experiments})
    return subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60).stderr


def test_grpc_knows_the_poller_that_it_is_told_to_leave() -> None:
    assert "Unknown experiment" not in said(None)


def test_grpc_reads_the_setting_and_an_operators_own_wins() -> None:
    assert "Unknown experiment: no_such_thing" in said("-no_such_thing")
