"""The plot of quality against latency holds every peer that answered, once per face."""

from __future__ import annotations

from pathlib import Path

from bench.peers.plot import drawn, points

FIGURES = {
    "peers.winnow-platform.http_p50_ms": 14.8,
    "peers.winnow-platform.ndcg_at_10": 0.083,
    "peers.winnow-platform.ndcg_error": 0.007,
    "peers.corerec-ease.one_p50_ms": 2.3,
    "peers.corerec-ease.http_p50_ms": 6.7,
    "peers.corerec-ease.ndcg_at_10": 0.073,
    "peers.corerec-ease.ndcg_error": 0.007,
    "peers.gone.failed": 1.0,
    "rows.winnow.p50_ms": 30.0,
}


def test_a_peer_is_where_it_was_measured_and_one_that_failed_is_nowhere() -> None:
    assert points(FIGURES, "one_p50_ms") == [("corerec-ease", 2.3, 0.073, 0.007)]
    assert [name for name, *_ in points(FIGURES, "http_p50_ms")] == ["winnow-platform", "corerec-ease"]


def test_the_same_figures_give_the_same_picture_with_every_name_in_it(tmp_path: Path) -> None:
    drawn(FIGURES, tmp_path / "a.svg")
    drawn(FIGURES, tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert text.count("corerec-ease") >= 2
    assert "winnow-platform" in text
    assert "gone" not in text
