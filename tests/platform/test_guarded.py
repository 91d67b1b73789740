"""A platform that is locked, as its operator meets it: keys made, used and revoked by the command line, tokens, and a shared
rate; and requests drawn from the document with every sort of credential."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from bench.processes import Platform, running
from parts.program import HOST, free_ports
from parts.program import running as program_running
from parts.redis import redis
from tests.homes import copy_of, registry_of
from tests.issuers import AUDIENCE, ISSUER, ec_key, jwk, key_document, rsa_key, token
from winnow.v1 import gateway_pb2 as pb

pytestmark = [pytest.mark.platform, pytest.mark.slow]


@dataclass
class Locked:
    platform: Platform
    keys: Path
    jwks: Path
    log: Path
    metrics: str

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.platform.rest}"

    def winnow(self, *words: str) -> str:
        command = [sys.executable, "-m", "cli", "keys", *words]
        env = os.environ | {"WINNOW_API_KEYS_FILE": str(self.keys)}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=True).stdout.strip()

    def asked(self, **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(f"{self.url}/v1/trending", headers=names, timeout=10)

    def until(self, status: int, **headers: str) -> None:
        """Ask until the answer is this one: a change of a file takes seconds."""
        end = time.monotonic() + 30
        while (answer := self.asked(**headers)).status_code != status:
            assert time.monotonic() < end, answer.text
            time.sleep(0.2)


@pytest.fixture(scope="module")
def locked(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("locked")
    keys, jwks = folder / "keys.json", folder / "jwks.json"
    keys.write_text('{"keys": []}')
    jwks.write_bytes(key_document())
    redis_port, metrics_port = free_ports(2)
    settings = {
        "WINNOW_AUTH": "on",
        "WINNOW_API_KEYS_FILE": str(keys),
        "WINNOW_JWKS_FILE": str(jwks),
        "WINNOW_JWT_ISSUER": ISSUER,
        "WINNOW_JWT_AUDIENCE": AUDIENCE,
        "WINNOW_REDIS_URL": f"redis://{HOST}:{redis_port}/0",
        "WINNOW_REDIS_TIMEOUT_MS": "5000",  # a stalled machine is not an absent Redis
        "WINNOW_RATE_PER_S": "0.2",
        "WINNOW_RATE_BURST": "40",
        "WINNOW_METRICS_ADDRESS": f"{HOST}:{metrics_port}",
        **registry_of(served_home),
    }
    home = copy_of(served_home, folder / "home")
    with (
        program_running(redis(folder / "redis", redis_port)),
        running(home, "one_process", folder / "logs", settings) as one,
    ):
        yield Locked(one, keys, jwks, folder / "logs" / "all.log", f"http://{HOST}:{metrics_port}/metrics")


def test_a_key_works_when_it_is_made_and_stops_when_it_is_revoked(locked: Locked) -> None:
    assert locked.asked().status_code == 401
    key = locked.winnow("create", "shop", "--scopes", "recommend")
    locked.until(200, x_api_key=key)
    refused = httpx.post(f"{locked.url}/v1/events", json={}, headers={"x-api-key": key}, timeout=10)
    assert (refused.status_code, refused.json()["detail"]) == (403, "needs the scope events:write")
    with grpc.insecure_channel(f"{HOST}:{locked.platform.grpc}") as channel:
        trending = channel.unary_unary(
            "/winnow.v1.RecommenderService/Trending", response_deserializer=pb.Answer.FromString
        )
        assert trending(b"", metadata=(("x-api-key", key),), timeout=10).items
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            trending(b"", timeout=10)
    locked.winnow("revoke", "shop")
    locked.until(401, x_api_key=key)
    assert key not in locked.log.read_text()


def test_a_token_of_a_new_key_is_taken_after_a_rotation(locked: Locked) -> None:
    new = token("r1", key=rsa_key(1), sub="rotated")
    assert locked.asked(authorization=f"Bearer {new}").status_code == 401
    locked.jwks.write_bytes(key_document(jwk(rsa_key(1), "r1"), jwk(ec_key(), "e0")))
    locked.until(200, authorization=f"Bearer {new}")
    assert locked.asked(authorization=f"Bearer {token()}").status_code == 401, "the old key is gone"
    assert new not in locked.log.read_text()


def test_the_rate_is_counted_in_redis_and_ends_in_429(locked: Locked) -> None:
    busy = f"Bearer {token('e0', 'ES256', sub='busy')}"
    answers = [locked.asked(authorization=busy) for _ in range(45)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:40] == [200] * 40
    refused = next(answer for answer in answers[40:] if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    counted = httpx.get(locked.metrics, timeout=5).text
    assert 'winnow_access_total{face="rest",outcome="rate-limited"}' in counted
    assert "winnow_rate_limit_fallback_total 0.0" in counted


def test_probes_and_prometheus_need_no_credential(locked: Locked) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert httpx.get(locked.url + path, timeout=10).status_code == 200
    assert httpx.get(f"{locked.url}/metrics", timeout=10).status_code == 401
    assert httpx.get(locked.metrics, timeout=10).status_code == 200
