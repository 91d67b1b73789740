from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.retrieval.build import build
from services.retrieval.settings import SOURCES, Settings
from winnow.catalogue import Catalogue
from winnow.serving.settings import words_of


def test_the_sources_that_settings_know_are_those_that_there_are(tmp_path: Path) -> None:
    service = build(Settings(home=tmp_path), Catalogue())
    try:
        assert set(service.source_names) == set(SOURCES)
    finally:
        service.close()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SHARES", {"towr": 1}, "unknown source 'towr' (did you mean tower?); known are tower, sequence, "),
        ("WEIGHTS", {"colour": 1}, "unknown source 'colour'; known are"),
        ("SHARES", {"tower": -0.1}, "tower: at least 0 and at most 1e+06"),
        ("SHARES", {"tower": 0.0}, "give at least one source a share above 0"),
        ("SHARES", {}, "give at least one source a share above 0"),
        ("WEIGHTS", {"tower": -1e308}, "tower: at least -1e+06 and at most 1e+06"),
        ("FLOORS", {"again": 0.0}, "again: above 0 and at most 1e+06"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: dict[str, float], said: str
) -> None:
    monkeypatch.setenv(f"WINNOW_RETRIEVAL_{variable}", json.dumps(value))
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert words_of(refused.value).startswith(f"WINNOW_RETRIEVAL_{variable}: {said}")


def test_nan_is_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        Settings(retrieval_shares={"tower": float("nan")})


def test_a_map_takes_the_place_of_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_RETRIEVAL_WEIGHTS", '{"sequence": -1}')
    assert Settings().retrieval_weights == {"sequence": -1.0}


def test_the_address_of_triton_is_looked_at_before_anything_starts() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(triton_address="nowhere")
    assert words_of(refused.value).startswith("WINNOW_TRITON_ADDRESS: give host:port")
    assert Settings(triton_address="").triton_address == ""
