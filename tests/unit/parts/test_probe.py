"""Whether a program is there, asked over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from parts.probe import answers
from parts.program import free_ports


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.end_headers()
        self.wfile.write(b"ranking has no bundle")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_program_that_answers_is_ready(port: int) -> None:
    assert answers(port, "/well") == ""


def test_a_refusal_is_passed_on_with_its_reason(port: int) -> None:
    assert answers(port, "/ill") == "status 503: ranking has no bundle"


def test_who_answers_may_still_not_be_ready(port: int) -> None:
    assert answers(port, "/well", lambda said: f"it says: {said}") == "it says: ranking has no bundle"


def test_nobody_there_is_a_reason_too() -> None:
    assert "onnect" in answers(free_ports(1)[0], "/well")
