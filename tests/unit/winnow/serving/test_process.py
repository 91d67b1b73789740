"""A serving process as its operator meets it: help that names every setting, one line for what is wrong, metrics."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from parts.program import free_ports

INNER = ("gateway", "feature", "retrieval", "ranking", "explanation")
NOWHERE = "no such host:80"  # a blank: the resolver asks nobody
SERVICES = ["services", *(f"services.{name}" for name in INNER)]


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


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    refused = run("services.feature", WINNOW_HOME=str(tmp_path), WINNOW_SEGMENT_BYTES="many")
    assert refused.returncode == 1
    assert refused.stderr.startswith("WINNOW_SEGMENT_BYTES: ")
    assert len(refused.stderr.splitlines()) == 1


def test_a_misspelt_variable_is_one_line_of_the_log() -> None:
    addresses = {"WINNOW_REST_ADDRESS": "127.0.0.1:0", "WINNOW_GATEWAY_ADDRESS": NOWHERE}
    told = run("services.gateway", WINNOW_EXPLROE="x", WINNOW_RANKING_THREADS="2", **addresses)
    warning = json.loads(told.stderr.splitlines()[0])
    assert warning["level"] == "warning"
    assert warning["message"] == "WINNOW_EXPLROE is set, and nothing reads it; did you mean WINNOW_EXPLORE?"
    assert told.stderr.count("nothing reads it") == 1, "a setting of another service is no mistake"


@pytest.mark.parametrize(
    ("service", "setting"),
    [
        ("services", "WINNOW_REST_ADDRESS"),
        ("services.gateway", "WINNOW_GATEWAY_ADDRESS"),
        ("services.feature", "WINNOW_FEATURE_ADDRESS"),
    ],
)
def test_a_taken_port_is_one_line_that_names_its_setting(tmp_path: Path, service: str, setting: str) -> None:
    free = {"WINNOW_REST_ADDRESS": "127.0.0.1:0", "WINNOW_GATEWAY_ADDRESS": "127.0.0.1:0"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = run(service, WINNOW_HOME=str(tmp_path), **{**free, setting: address})
    assert refused.returncode == 1
    remedy = f"free it, or set {setting} to another"
    assert refused.stderr == f"cannot listen on {address}: address already in use; {remedy}\n"


@pytest.mark.parametrize(
    ("address", "why"),
    [("192.0.2.7:80", "cannot assign requested address"), (NOWHERE, "name or service not known")],
)
def test_an_address_that_is_not_here_is_one_line(address: str, why: str) -> None:
    refused = run("services.gateway", WINNOW_REST_ADDRESS="127.0.0.1:0", WINNOW_GATEWAY_ADDRESS=address)
    assert refused.returncode == 1
    remedy = "free it, or set WINNOW_GATEWAY_ADDRESS to another"
    warning, *lines = refused.stderr.splitlines()
    assert "WINNOW_AUTH is off" in warning  # it would be open to everybody
    assert lines == [f"cannot listen on {address}: {why}; {remedy}"]


@pytest.mark.parametrize("address", ["taken", "127.0.0.1:99999"])
def test_metrics_that_cannot_be_shown_are_one_line(tmp_path: Path, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = address.replace("taken", f"127.0.0.1:{taken.getsockname()[1]}")
        refused = run("services.ranking", "--metrics-address", address, WINNOW_HOME=str(tmp_path))
    assert refused.returncode == 1
    assert address in refused.stderr
    assert "--metrics-address" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = run("services.feature", WINNOW_HOME=str(tmp_path / "file"))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"cannot write {tmp_path / 'file'}")
    assert "WINNOW_HOME must name a folder" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_process_without_an_http_face_can_show_its_metrics(tmp_path: Path) -> None:
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
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
