"""The hop is measured on what serving uses, by the names that later runs compare."""

from pathlib import Path

import pytest

from bench.hop import measure_hop
from tests.bundles import make_items, tiny_ranking_bundle
from tests.tritons import serving


@pytest.mark.platform
def test_the_hop_is_measured_three_ways(tmp_path: Path) -> None:
    bundle = tiny_ranking_bundle(tmp_path / "bundle", make_items(50))
    with serving(tmp_path / "triton") as server:
        found = measure_hop(bundle, server.address, server.repository, n=50, calls=20)
    ways = ("onnx", "triton_grpc", "triton_shm")
    assert set(found) == {f"infer.50.{way}_{kind}" for way in ways for kind in ("ms", "p99_ms")}
    assert all(value > 0 for value in found.values())
    assert found["infer.50.triton_grpc_ms"] > found["infer.50.onnx_ms"]
