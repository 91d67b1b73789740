"""The three ways to close a platform: what is measured of them, and that their settings are real."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bench.faces import RestFace
from bench.secured import HOST, PUBLIC, SERVICES, figures, identity, ways_of
from services.gateway.api_keys import ApiKeys
from services.gateway.settings import Settings
from winnow.authority import certify
from winnow.serving.guard import API_KEY


def test_what_a_way_costs_is_the_median_of_pairs() -> None:
    """A machine that slows down slows both: the difference of medians would say something else."""
    found = figures({"off": [10.0, 20.0, 90.0], "mtls": [10.5, 20.5, 90.5], "on": [11.0, 22.0, 91.0]})
    assert found["security.off.p50_ms"] == 20.0
    assert found["security.mtls.cost_p50_ms"] == pytest.approx(0.5)
    assert found["security.on.cost_p50_ms"] == pytest.approx(1.0)
    assert found["security.on.p50_ms"] == 22.0


def test_only_the_closed_way_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name: (f"{name}.winnow",) for name in SERVICES} | {PUBLIC: (HOST,)}
    certify(tmp_path / "certificates", names, lifetime=timedelta(days=1))
    ways = ways_of(tmp_path / "certificates", tmp_path)
    assert (ways["off"].mtls, ways["off"].tls, dict(ways["off"].headers)) == (False, None, {})
    assert ways["mtls"].settings == ways["off"].settings
    own = identity(tmp_path / "certificates", "gateway")
    for name, value in {**ways["on"].settings, **own}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.auth, settings.audit, settings.tls_folder) == ("on", True, own["WINNOW_TLS_FOLDER"])
    assert ApiKeys(file=settings.api_keys_file).find(ways["on"].headers[API_KEY]).subject == "bench"
    sent = RestFace(HOST, 1, 10, 1, headers=ways["on"].headers)._request("u1")
    head, _, body = sent.partition(b"\r\n\r\n")
    assert f"{API_KEY}: winnow_bench_".encode() in head
    assert b'"user_id":"u1"' in body
