"""The small programs that the chart carries in its ConfigMaps."""

from __future__ import annotations

import ast
import http.server
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.helm import CHART

FILES = CHART / "files"
TOKEN = "token-of-the-account"


@pytest.mark.parametrize("script", sorted(FILES.glob("*.sh")), ids=lambda path: path.name)
def test_a_shell_script_is_one(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=10).stderr == ""


@pytest.mark.parametrize("script", sorted(FILES.glob("*.py")), ids=lambda path: path.name)
def test_a_python_script_is_one(script: Path) -> None:
    ast.parse(script.read_text("utf-8"))


class Cluster(http.server.BaseHTTPRequestHandler):
    """As much of an API server as keeps Secrets."""

    kept: dict[str, Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["metadata"]["name"]
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}" and self.path == "/api/v1/namespaces/shop/secrets"
        status = 409 if name in self.kept else 201
        self.send_response(status if allowed else 403)
        self.end_headers()
        if allowed:
            self.kept.setdefault(name, body["stringData"])

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def certificate(folder: Path) -> None:
    """Of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cluster")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    whole = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *whole))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[http.server.HTTPServer]:
    certificate(tmp_path)
    Cluster.kept = {}
    server = http.server.HTTPServer(("127.0.0.1", 0), Cluster)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.crt", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_secret_is_made_once_and_never_changed(cluster: http.server.HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "namespace").write_text("shop")
    program = (FILES / "secrets.py").read_text("utf-8")
    program = program.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(tmp_path))
    place = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(cluster.server_address[1])}

    def run() -> subprocess.CompletedProcess[str]:
        env = {**place, "NAME": "winnow-secrets", "KEYS": "redis-password,postgres-password"}
        return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=30)

    assert run().stdout == "winnow-secrets is made\n"
    first = dict(Cluster.kept["winnow-secrets"])
    assert set(first) == {"redis-password", "postgres-password"}
    assert all(len(value) == 48 for value in first.values())
    assert len(set(first.values())) == 2
    assert run().stdout == "winnow-secrets is there already\n"
    assert Cluster.kept["winnow-secrets"] == first
    (tmp_path / "token").write_text("another")
    refused = run()
    assert refused.returncode == 1
    assert "403" in refused.stderr
