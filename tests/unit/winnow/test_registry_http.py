"""The few questions that a follower asks an MLflow server, by REST: answered, absent, refused, and what is not understood."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from winnow import registry_http
from winnow.errors import NotFound, Unavailable
from winnow.registry_file import Row, Unfamiliar

TAG = "winnow.bundle"
SOURCE = "mlflow-artifacts:/1/run/artifacts/bundle"


@dataclass
class Server:
    """Says what it is told to: by path, or by path and folder; keeps what was asked."""

    address: str = ""
    says: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # path with its query, Authorization

    def answer(self, path: str, body: object, status: int = 200) -> None:
        self.says[path] = (status, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, self.headers.get("Authorization", "")))
            parts = urlsplit(self.path)
            folder = parse_qs(parts.query).get("path", [""])[0]
            status, body = made.says.get(f"{parts.path}?{folder}" if folder else parts.path, (404, b"{}"))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    made.address = f"http://127.0.0.1:{http.server_address[1]}"
    yield made
    http.shutdown()
    http.server_close()


def version(**more: object) -> dict[str, object]:
    return {"model_version": {"version": "7", "source": SOURCE, "tags": [{"key": TAG, "value": "b1"}], **more}}


def test_an_alias_leads_to_its_version(server: Server) -> None:
    server.answer(registry_http.ALIAS, version())
    assert registry_http.by_alias(server.address, "winnow-ranking", "champion", TAG) == Row("7", SOURCE, "b1")
    assert server.asked[0][0].endswith("?name=winnow-ranking&alias=champion")


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"])
def test_no_model_and_no_alias_are_no_version(server: Server, code: str) -> None:
    server.answer(registry_http.ALIAS, {"error_code": code}, 404 if code.startswith("RES") else 400)
    assert registry_http.by_alias(server.address, "winnow-ranking", "champion", TAG) is None


def test_a_server_that_fails_or_is_away_is_unavailable(server: Server) -> None:
    server.answer(registry_http.ALIAS, b"no database", 500)
    with pytest.raises(Unavailable, match="500"):
        registry_http.by_alias(server.address, "winnow-ranking", "champion", TAG)
    with pytest.raises(Unavailable):
        registry_http.by_alias("http://127.0.0.1:9", "winnow-ranking", "champion", TAG)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"model_version": []}'),
        (401, b""),
        (403, b"{}"),
        (404, b"x"),
    ],
)
def test_what_is_no_answer_of_mlflow_is_left_to_its_own_client(server: Server, status: int, body: bytes) -> None:
    server.answer(registry_http.VERSION, body, status)
    with pytest.raises(Unfamiliar):
        registry_http.by_number(server.address, "winnow-ranking", "7", TAG)


@pytest.mark.parametrize("name", [*registry_http.SPECIAL, "MLFLOW_TRACKING_SERVER_CERT_PATH"])
def test_a_log_in_that_is_not_known_here_is_left_to_its_own_client(
    server: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "something")
    with pytest.raises(Unfamiliar):
        registry_http.by_alias(server.address, "winnow-ranking", "champion", TAG)
    assert server.asked == []


def test_it_logs_in_as_mlflows_settings_say(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer(registry_http.ALIAS, version())
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    registry_http.by_alias(server.address, "m", "champion", TAG)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "renewed")
    registry_http.by_alias(server.address, "m", "champion", TAG)
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    registry_http.by_alias(server.address, "m", "champion", TAG)
    basic = [f"Basic {base64.b64encode(words).decode()}" for words in (b"ann:secret", b"ann:renewed")]
    assert [said for _, said in server.asked] == [*basic, "Bearer t0ken"]


def test_polls_share_one_client(server: Server) -> None:
    """Making one costs more than ten polls do."""
    server.answer(registry_http.ALIAS, version())
    registry_http._client.cache_clear()  # another test's server may have had the same port
    for _ in range(5):
        registry_http.by_alias(server.address, "m", "champion", TAG)
    assert registry_http._client.cache_info().misses == 1


def test_files_are_brought_whole_and_nothing_lands_outside(server: Server, tmp_path: Path) -> None:
    root = "1/run/artifacts/bundle"
    entries = [{"path": "../../../escape.txt", "is_dir": False}, {"path": "bundle/towers", "is_dir": True}]
    server.answer(f"{registry_http.ARTIFACTS}?{root}", {"files": entries})
    server.answer(f"{registry_http.ARTIFACTS}?{root}/towers", {"files": [{"path": "towers/item.onnx"}]})
    server.answer(f"{registry_http.ARTIFACTS}/{root}/escape.txt", b"caught")
    server.answer(f"{registry_http.ARTIFACTS}/{root}/towers/item.onnx", b"\0" * 100_000)
    registry_http.download(server.address, SOURCE, tmp_path / "here")
    found = {str(file.relative_to(tmp_path)): file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {"here/escape.txt": 6, "here/towers/item.onnx": 100_000}


def test_files_that_are_gone_are_not_found_and_another_store_is_left_alone(server: Server, tmp_path: Path) -> None:
    server.answer(f"{registry_http.ARTIFACTS}?1/run/artifacts/bundle", {"files": []})
    with pytest.raises(NotFound):
        registry_http.download(server.address, SOURCE, tmp_path)
    with pytest.raises(Unfamiliar):
        registry_http.download(server.address, "s3://bucket/bundle", tmp_path)
    assert len(server.asked) == 1
