"""The chart's probe of Triton: a server whose model is dead says that it is ready, and the probe does not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from parts.triton import ROOT, STUB
from tests.tritons import Server, serving, small_bundle

pytestmark = pytest.mark.platform

PROBE = ROOT / "deploy" / "helm" / "winnow" / "files" / "triton_probe.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("triton")) as running:
        yield running


def http_of(server: Server) -> str:
    [port] = [word.partition("=")[2] for word in server.program.command if word.startswith("--http-port=")]
    return f"127.0.0.1:{port}"


def probed(server: Server, seconds: float = 4) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(PROBE), str(seconds), http_of(server)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_a_dead_model_is_found_where_the_server_calls_itself_ready(server: Server, tmp_path: Path) -> None:
    assert probed(server).returncode == 0, "a server without models can load some"
    with closing(server.host(every_s=600)) as host:  # nobody repairs it meanwhile
        [model] = host.load(small_bundle(tmp_path / "bundle", "mixing"), ["mixing"]).values()
        assert probed(server).returncode == 0, probed(server).stderr
        for child in psutil.Process(server.running.process.pid).children(recursive=True):
            if STUB in " ".join(child.cmdline()):
                child.kill()
        time.sleep(1)
        assert httpx.get(f"http://{http_of(server)}/v2/health/ready", timeout=5).is_success, "it says so"
        found = probed(server)
        assert found.returncode == 1
        assert found.stderr.startswith(model.name), found.stderr  # type: ignore[attr-defined]


def test_a_server_that_is_away_is_not_ready(server: Server) -> None:
    server.running.process.suspend()
    try:
        assert probed(server, 0.5).returncode == 1
    finally:
        server.running.process.resume()
