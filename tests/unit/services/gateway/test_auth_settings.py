"""Never half a lock: what does not fit together stops the start, by the name of the setting."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.gateway.let_in import gate
from services.gateway.settings import Settings
from tests.guards import new_key
from tests.issuers import key_document
from winnow.errors import FailedPrecondition

TOKENS = {"jwks_url": "https://issuer.example/jwks", "jwt_issuer": "https://issuer.example", "jwt_audience": "winnow"}
KEYS = {"api_keys": new_key()[1]}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"auth": "on"}, "WINNOW_AUTH: on needs one of WINNOW_JWKS_URL"),
        ({"auth": "on", "jwt_issuer": "i", "jwt_audience": "a"}, "exactly one of WINNOW_JWKS_URL, WINNOW_JWKS_FILE"),
        ({"auth": "on", **TOKENS, "jwks_file": "f"}, "exactly one of WINNOW_JWKS_URL, WINNOW_JWKS_FILE"),
        ({"auth": "on", **TOKENS, "jwt_issuer": ""}, "WINNOW_JWT_ISSUER"),
        ({"auth": "on", **TOKENS, "jwt_audience": ""}, "WINNOW_JWT_AUDIENCE"),
        ({"auth": "on", **KEYS, "jwt_audience": "winnow"}, "exactly one of WINNOW_JWKS_URL"),
        ({"auth": "on", **TOKENS, "jwks_url": "http://issuer.example/jwks"}, "WINNOW_JWKS_URL: give an https"),
        ({"auth": "on", **TOKENS, "jwks_url": "file:///etc/passwd"}, "WINNOW_JWKS_URL: give an https"),
        ({"auth": "on", **TOKENS, "jwks_url": "https://u:p@issuer.example/"}, "WINNOW_JWKS_URL: give an https"),
        ({"auth": "on", **KEYS, "api_keys_file": "f"}, "one of WINNOW_API_KEYS_FILE, WINNOW_API_KEYS"),
        ({"auth": "off", **KEYS}, "WINNOW_API_KEYS: set, but WINNOW_AUTH is off"),
        (TOKENS, "WINNOW_JWKS_URL, WINNOW_JWT_ISSUER, WINNOW_JWT_AUDIENCE: set, but WINNOW_AUTH is off"),
    ],
)
def test_half_a_lock_is_refused_by_name(settings: dict[str, str], named: str) -> None:
    with pytest.raises(FailedPrecondition, match=named) as refused:
        Settings(**settings)
    assert KEYS["api_keys"] not in refused.value.detail


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, r"WINNOW_API_KEYS_FILE: .*No such file"),
        ("{", "WINNOW_API_KEYS_FILE: not JSON"),
        ('{"keys":[{"id":"a","sha256":"00","scopes":["recommend"]}]}', r"WINNOW_API_KEYS_FILE: keys\.0\.sha256"),
        (new_key(("recommend",))[1].replace("recommend", "everything"), r"WINNOW_API_KEYS_FILE: keys\.0\.scopes"),
        (new_key()[1].replace("[{", "[{},{"), r"WINNOW_API_KEYS_FILE: keys\.0"),
    ],
)
def test_a_key_file_that_cannot_be_used_stops_the_start(tmp_path: Path, content: str | None, named: str) -> None:
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(FailedPrecondition, match=named):
        gate(Settings(auth="on", api_keys_file=str(file)))


def test_a_key_set_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    settings = {**TOKENS, "jwks_url": "", "jwks_file": str(file)}
    with pytest.raises(FailedPrecondition, match=r"WINNOW_JWKS_FILE: .*No such file"):
        gate(Settings(auth="on", **settings))
    file.write_text("{}")
    with pytest.raises(FailedPrecondition, match="WINNOW_JWKS_FILE: not a JSON Web Key Set"):
        gate(Settings(auth="on", **settings))
    file.write_bytes(key_document())
    assert gate(Settings(auth="on", **settings)) is not None


def test_an_issuer_that_is_away_does_not_stop_the_start() -> None:
    assert gate(Settings(auth="on", **{**TOKENS, "jwks_url": "http://127.0.0.1:1/"})) is not None


def test_limits_come_with_authentication_and_alone() -> None:
    assert gate(Settings()) is None
    assert Settings().rates == ((0, 1), (0, 1))
    assert Settings(auth="on", **KEYS).rates == ((1_000, 2_000), (50, 100))
    assert Settings(auth="on", **KEYS, rate_per_s=0, rate_address_per_s=0).rates[0][0] == 0
    alone = gate(Settings(rate_address_per_s=5, rate_address_burst=7))
    assert alone is not None
    assert (alone.callers, alone.caller_rate) == (None, None)
    assert alone.address_rate is not None
    assert (alone.address_rate.per_s, alone.address_rate.burst) == (5, 7)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.1.2.3:1", "gateway.example:1"])
def test_an_open_door_on_a_network_is_said_once(address: str, caplog: pytest.LogCaptureFixture) -> None:
    gate(Settings(rest_address=address))
    assert [address in record.message for record in caplog.records] == [True]
    assert "WINNOW_AUTH" in caplog.text


def test_nothing_is_said_on_the_laptop_or_behind_the_lock(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for host in ("127.0.0.1", "localhost", "[::1]", "127.0.0.9"):
        gate(Settings(rest_address=f"{host}:1", gateway_address=f"{host}:2"))
    gate(Settings(rest_address="0.0.0.0:1", auth="on", **KEYS))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"WINNOW_AUTH": "on"}, "WINNOW_AUTH: on needs one of"),
        ({"WINNOW_AUTH": "on", "WINNOW_API_KEYS": "{"}, "WINNOW_API_KEYS: not JSON"),
    ],
)
def test_a_process_says_it_in_one_line(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    free = {"WINNOW_HOME": str(tmp_path), "WINNOW_REST_ADDRESS": "127.0.0.1:0", "WINNOW_GATEWAY_ADDRESS": "127.0.0.1:0"}
    command = [sys.executable, "-m", "services.gateway"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **free, **settings})
    assert ran.returncode == 1
    assert ran.stderr.startswith(named)
    assert len(ran.stderr.splitlines()) == 1
