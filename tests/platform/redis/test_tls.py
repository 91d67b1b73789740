"""Redis by TLS: the address alone says it, as `rediss://`."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parts.program import HOST, free_ports
from tests.certificates import certified
from winnow.errors import WinnowError
from winnow.redis import Hashes, connect, translated

pytestmark = pytest.mark.platform


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a Redis that speaks TLS alone and asks for certificates, and the folder of certificates."""
    server = shutil.which("redis-server")
    assert server is not None, "redis-server is missing; make packages installs it"
    folder = certified(tmp_path_factory.mktemp("redis-tls"))
    [port] = free_ports(1)
    files = {"cert-file": "face/tls.crt", "key-file": "face/tls.key", "ca-cert-file": "face/ca.crt"}
    options = [word for name, file in files.items() for word in (f"--tls-{name}", str(folder / file))]
    command = [server, "--port", "0", "--tls-port", str(port), "--bind", HOST, "--save", "", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ) as started:
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until and not answers(url(port, folder)):
                time.sleep(0.05)
            yield port, folder
        finally:
            started.terminate()


def url(port: int, folder: Path, authority: str = "gateway") -> str:
    own = folder / "gateway"
    ours = f"ssl_certfile={own}/tls.crt&ssl_keyfile={own}/tls.key"
    return f"rediss://{HOST}:{port}/0?ssl_ca_certs={folder / authority}/ca.crt&{ours}"


def answers(address: str) -> bool:
    client: Any = connect(address, 2.0)
    try:
        with translated():
            return bool(client.ping())
    except WinnowError:
        return False
    finally:
        client.close()


def test_both_sides_prove_who_they_are(secured: tuple[int, Path], tmp_path: Path) -> None:
    port, folder = secured
    shutil.copytree(certified(tmp_path / "made"), tmp_path / "foreign")
    assert answers(url(port, folder))
    assert not answers(f"redis://{HOST}:{port}/0")
    assert not answers(f"rediss://{HOST}:{port}/0?ssl_ca_certs={folder}/gateway/ca.crt")  # nobody's
    assert not answers(url(port, tmp_path / "foreign"))


def test_many_hashes_are_read_by_tls(secured: tuple[int, Path]) -> None:
    port, folder = secured
    client: Any = connect(url(port, folder), 5.0)
    keys = [b"h%d" % n for n in range(500)]
    for key in keys:
        client.hset(key, mapping={b"a": key * 20, b"b": b"x"})
    hashes = Hashes(client)
    assert hashes([(key, [b"b", b"a", b"no"]) for key in keys]) == [[b"x", key * 20, None] for key in keys]
    hashes.close()
    client.close()
