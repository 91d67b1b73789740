"""The probe of containers asks what gRPC's health protocol answers."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from parts.program import free_ports
from winnow.requests import Readiness
from winnow.serving.probe import ask, local
from winnow.serving.serve import Registration, RunningServer, serve_grpc

ENTRY = Path(__file__).parents[4] / "deploy" / "image" / "entry.py"


async def server(ready: bool) -> RunningServer:
    async def readiness() -> Readiness:
        return Readiness(ready)

    return await serve_grpc([Registration("one", lambda server: None, readiness)], "127.0.0.1:0")


@pytest.mark.parametrize(("ready", "status", "words"), [(True, 0, ""), (False, 1, "NOT_SERVING")])
async def test_a_server_is_well_when_its_services_can_work(
    ready: bool, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    started = await server(ready)
    try:
        assert await settled(started.address, status) == status
        assert words in capsys.readouterr().err
        assert await ask(started.address, "nobody knows me") == 1
        assert "NOT_FOUND" in capsys.readouterr().err
    finally:
        await started.stop()


async def settled(address: str, status: int) -> int:
    """The watch of a server that has only begun may not have looked yet."""
    found = 1 - status
    for _ in range(20):
        if (found := await ask(address)) == status:
            break
    return found


async def test_who_is_not_there_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    [port] = free_ports(1)
    assert await ask(f"127.0.0.1:{port}", wait_s=1) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "reached"),
    [("0.0.0.0:50053", "127.0.0.1:50053"), ("[::]:50053", "[::1]:50053"), ("10.1.2.3:1", "10.1.2.3:1")],
)
def test_what_listens_everywhere_is_reached_nearby(address: str, reached: str) -> None:
    assert local(address) == reached


@pytest.mark.parametrize(("service", "variable"), [("ranking", "RANKING"), ("serving", "GATEWAY")])
async def test_an_image_is_probed_where_its_own_settings_let_it_listen(service: str, variable: str) -> None:
    started = await server(ready=True)
    try:
        assert await settled(started.address, 0) == 0
        port = started.address.rpartition(":")[2]
        told = {"WINNOW_SERVICE": service, f"WINNOW_{variable}_ADDRESS": f"0.0.0.0:{port}"}
        probe = await asyncio.create_subprocess_exec(sys.executable, ENTRY, "probe", env={**os.environ, **told})
        assert await asyncio.wait_for(probe.wait(), 60) == 0
    finally:
        await started.stop()
