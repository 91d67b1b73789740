"""A serving process as its operator meets it: help that names every setting, one line for what is wrong, metrics."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

SERVICES = ["services", *(f"services.{name}" for name in ("gateway", "feature", "retrieval", "ranking", "explanation"))]


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | settings, cwd=os.getcwd(), check=False
    )


@pytest.mark.parametrize("service", SERVICES)
def test_help_names_the_settings(service: str) -> None:
    shown = run(service, "--help")
    assert shown.returncode == 0
    assert "_ADDRESS=127.0.0.1:" in shown.stdout
    assert shown.stdout.startswith(f"usage: python -m {service} ")


def test_a_wrong_setting_and_a_taken_port_are_one_line(tmp_path: Path) -> None:
    refused = run("services.feature", WINNOW_HOME=str(tmp_path), WINNOW_SEGMENT_BYTES="many")
    assert refused.returncode == 1
    assert refused.stderr.startswith("WINNOW_SEGMENT_BYTES: ")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = run("services.feature", WINNOW_HOME=str(tmp_path), WINNOW_FEATURE_ADDRESS=address)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"cannot listen on {address}")


def test_a_process_without_an_http_face_can_show_its_metrics(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"WINNOW_HOME": str(tmp_path), "WINNOW_FEATURE_ADDRESS": "127.0.0.1:0"}
    command = [sys.executable, "-m", "services.feature", "--metrics-address", address]
    with subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("serving on" in line for line in process.stderr)
            page = httpx.get(f"http://{address}/metrics", timeout=5).text
        finally:
            process.terminate()
        assert process.wait(20) == 0
    assert "winnow_grpc_requests" in page
