"""Models appear complete, say what their graph says, and stay while anybody leases them."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.tritons import small_bundle
from winnow.errors import BundleRefused, Unavailable
from winnow.inference import Tensor
from winnow.model_repository import CONFIG, LEASES, ModelRepository, Running, config_of, name_of

FLOATS, IDS = "tensor(float)", "tensor(int64)"


def models(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LEASES)


def test_a_graph_with_a_batch_is_batched_and_its_queue_is_limited() -> None:
    inputs = [Tensor("user", FLOATS, ("b", 4)), Tensor("items", FLOATS, ("b", "n", 4))]
    config = config_of("m", inputs, [Tensor("heads", FLOATS, (None, None))], Running(max_queue=9, max_queue_s=0.25))
    assert 'input [ { name: "items" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]' in config
    assert "max_batch_size: 8192" in config
    assert "max_queue_size: 9" in config
    assert "default_timeout_microseconds: 250000" in config
    assert 'key: "items" value: { data_type: TYPE_FP32 dims: [ 1, 4 ] zero_data: true }' in config


def test_without_limits_a_queue_has_no_policy() -> None:
    batch = [Tensor("x", FLOATS, ("b", 4))]
    assert "dynamic_batching { }" in config_of("m", batch, batch, Running())


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([("b", 4), ("n", 4)], [("b", 4)]),  # two free sizes that need not agree
        ([(1, 4)], [(1, 4)]),
        ([("b", 4)], [(1, 4)]),  # a sum over the batch
        ([("b",)], [("b", 1)]),
    ],
)
def test_a_graph_without_a_batch_is_not_batched(
    inputs: list[tuple[object, ...]], outputs: list[tuple[object, ...]]
) -> None:
    sides = [[Tensor(f"t{n}", IDS, shape) for n, shape in enumerate(side)] for side in (inputs, outputs)]  # type: ignore[arg-type]
    config = config_of("m", *sides, Running())
    assert "max_batch_size: 0" in config
    assert "dynamic_batching" not in config


def test_a_type_that_is_not_served_is_refused() -> None:
    with pytest.raises(BundleRefused, match=r"tensor\(string\)"):
        config_of("m", [Tensor("words", "tensor(string)", ("b", 4))], [], Running())


def test_a_model_is_published_once_and_by_whoever_is_first(tmp_path: Path) -> None:
    bundle, folder = small_bundle(tmp_path / "bundle", "mixing"), tmp_path / "models"
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: ModelRepository(folder).publish(bundle, "mixing"), range(16)))
    assert set(names) == {f"ranking-mixing-{bundle.id}"}
    assert models(folder) == names[:1]
    assert (folder / names[0] / "1" / "model.onnx").read_bytes() == bundle.file("mixing.onnx").read_bytes()


def test_weights_beside_the_graph_come_along(tmp_path: Path) -> None:
    bundle, folder = small_bundle(tmp_path / "bundle", "mixing"), tmp_path / "models"
    bundle.file("mixing.onnx.data").write_bytes(b"weights")
    name = ModelRepository(folder).publish(bundle, "mixing")
    assert (folder / name / "1" / "mixing.onnx.data").read_bytes() == b"weights"


def test_other_settings_change_the_configuration_of_a_published_model(tmp_path: Path) -> None:
    bundle, folder = small_bundle(tmp_path / "bundle", "mixing"), tmp_path / "models"
    name = ModelRepository(folder).publish(bundle, "mixing")
    ModelRepository(folder, Running(instances=3)).publish(bundle, "mixing")
    assert "count: 3" in (folder / name / CONFIG).read_text()
    assert sorted(path.name for path in (folder / name).iterdir()) == ["1", CONFIG]


def test_a_publication_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    bundle, folder = small_bundle(tmp_path / "bundle", "mixing"), tmp_path / "models"
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(Unavailable, match="No space left"):
        ModelRepository(folder).publish(bundle, "mixing")
    assert models(folder) == []


def test_a_folder_that_cannot_be_written_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a folder")
    with pytest.raises(Unavailable):
        ModelRepository(tmp_path / "models").publish(small_bundle(tmp_path / "bundle", "mixing"), "mixing")


def age(lease: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(lease, (then, then))


def test_a_model_is_unused_when_every_lease_has_run_out(tmp_path: Path) -> None:
    bundle, folder = small_bundle(tmp_path / "bundle", "mixing"), tmp_path / "models"
    one, two = ModelRepository(folder), ModelRepository(folder)
    name = one.publish(bundle, "mixing")
    two.renew(name)
    leases = sorted((folder / LEASES / name).iterdir())
    assert len(leases) == 2
    age(leases[0], 60)
    assert one.unused(30.0) == []
    age(leases[1], 60)
    assert two.unused(30.0) == [name]
    one.renew(name)
    assert two.unused(30.0) == []


def test_what_is_removed_is_gone_and_a_model_without_a_lease_is_nobodys_to_remove(tmp_path: Path) -> None:
    bundle, repository = small_bundle(tmp_path / "bundle", "mixing"), ModelRepository(tmp_path / "models")
    (tmp_path / "models" / "foreign").mkdir(parents=True)
    name = repository.publish(bundle, "mixing")
    for lease in (tmp_path / "models" / LEASES / name).iterdir():
        age(lease, 60)
    for unused in repository.unused(30.0):
        repository.remove(unused)
        repository.remove(unused)
    assert models(tmp_path / "models") == ["foreign"]
    assert name == name_of(bundle, "mixing")


def test_tensorrt_is_asked_for_on_a_gpu_alone() -> None:
    batch = [Tensor("x", FLOATS, ("b", 4))]
    assert 'name: "tensorrt"' in config_of("m", batch, batch, Running(on_gpu=True, tensorrt=True))
    assert "tensorrt" not in config_of("m", batch, batch, Running(tensorrt=True))
