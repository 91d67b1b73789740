"""The benchmark of vector indexes on a handful of vectors: it measures what it says, and draws it the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import vectors as benching
from bench.figures import Figures
from bench.vectors import Bench, World, plot


@pytest.fixture(scope="module")
def bench() -> Bench:
    patch = pytest.MonkeyPatch()
    patch.setattr(benching, "TUNERS", 16)
    patch.setattr(benching, "PEOPLE", 24)
    patch.setattr(benching, "FILTERED", 4)
    patch.setattr(benching, "WIDTHS", {"nprobe": (4, 32), "efSearch": (32,)})
    made = Bench(World.generate(3_000), Figures(), lambda _: None)
    for kind in ("flat", "ivf"):
        made.kind(kind)
    made.summary(["flat", "ivf"])
    patch.undo()
    return made


def test_comparing_all_finds_all_and_every_kind_fills_whatever_the_filter(bench: Bench) -> None:
    flat, cells = bench.of("flat"), bench.of("ivf")
    assert flat["k100.recall"] == flat["k500.recall"] == flat["filter_1.recall"] == 1.0
    assert flat["bytes_per_item"] == pytest.approx(512, abs=1)
    assert cells["curve.4.recall"] < cells["curve.32.recall"]
    assert bench.figures.values["vectors.fill_percent"] == 100
    assert bench.figures.values["vectors.smallest_at_recall_98.bytes_per_item"] == flat["bytes_per_item"]


def test_the_vectors_are_the_same_every_time_of_length_one_and_in_clusters() -> None:
    one, other = World.generate(2_000), World.generate(2_000)
    np.testing.assert_array_equal(one.vectors, other.vectors)
    np.testing.assert_allclose(np.linalg.norm(one.vectors, axis=1), 1, atol=1e-5)
    together = one.vectors @ one.vectors.T
    same = one.cluster[:, None] == one.cluster[None]
    assert together[same].mean() > together[~same].mean() + 0.2


def test_the_plot_is_the_same_bytes_for_the_same_figures(bench: Bench, tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg"):
        plot(bench, ["flat", "ivf"], tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    assert json.dumps(bench.figures.values)


@pytest.mark.parametrize("items", ["4999", "0", "-5000", "5e3", "many"])
def test_too_few_vectors_are_refused_before_any_is_made(items: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        benching.main(["--items", items])
    assert ended.value.code == 2
    refused = "argument --items: a whole number from 5,000 on: fewer are searched by comparing all"
    assert refused in capsys.readouterr().err
    assert benching.parser().parse_args(["--items", "5000"]).items == 5_000
