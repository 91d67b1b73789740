"""The benchmark of a card, without one: its steps on the CPU in miniature, and what it says of what it cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from bench.gpu import card, inference, main, plan, vectors
from bench.gpu.apart import Told, apart, error_in, wall_ms
from bench.gpu.inference import CPU, Exported
from bench.gpu.plan import CARD, TRY, steps
from bench.gpu.training import MODELS, VARIANTS, Length, measured
from bench.gpu.vectors import Search
from bench.gpu.worlds import prepared
from bench.peers.trial import Failed
from bench.vectors import World
from services.retrieval.indexes.device import ON_DEVICE, DeviceIndex
from services.retrieval.indexes.flat import FaissIndex, lib
from winnow.inference import TOLERANCE

WORLD = Path("world")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("gpu"), items=200)


# ---------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(("model", "variant", "examples"), [("two_tower", "fp32", 8 * 50), ("dlrm", "bf16", 8 * 33)])
def test_a_step_is_measured_with_its_batch(world: Path, model: str, variant: str, examples: int) -> None:
    def in_order() -> bool:
        found = measured(MODELS[model](world, 8, 2), VARIANTS[variant], Length(steps=2, epochs=2))
        a_step = found["examples_per_s"] * found["step_ms"] / 1000
        assert examples / 4 < a_step <= examples + 1e-6
        assert found["peak_mb"] > 50
        assert found["loss"] > 0
        assert found["processes"] == 1
        return 0 < found["batch_ms"] < found["step_ms"] < 1000 * found["first_epoch_s"]

    assert any(in_order() for _ in range(3))  # of two steps, one that stalls may be the longest of all


def test_variants_differ_in_what_they_say() -> None:
    assert set(VARIANTS) == set(plan.VARIANTS)
    assert [name for name, variant in VARIANTS.items() if variant.spread] == [plan.SPREAD]
    assert set(plan.INDEXES) == set(ON_DEVICE)


# ---------------------------------------------------------------------------------------------- vectors


@pytest.fixture(scope="module")
def search() -> Search:
    return Search(World.generate(2_000), batches=(1, 16), seconds=0.02)


def test_comparing_all_finds_all_and_a_faiss_without_cards_says_so(search: Search) -> None:
    figures, missing = vectors.measured("flat", search, "cpu")
    assert figures["on_cpu.recall"] == 1.0
    assert figures["on_cpu.batch_16.query_ms"] < figures["on_cpu.batch_16.call_p99_ms"]
    assert missing == {}
    figures, missing = vectors.measured("flat", search, "cuda")
    assert "on_cpu.batch_1.query_ms" in figures
    assert "on_cpu.batch_16.query_ms" not in figures
    assert "FAISS" in missing["on_card"] or "GPU" in missing["on_card"]


def test_a_card_is_searched_as_serving_searches_it(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[DeviceIndex] = []

    def stand_in(beside: FaissIndex) -> DeviceIndex:
        copies.append(DeviceIndex(beside, lib.clone_index(beside.index)))
        return copies[0]

    monkeypatch.setattr(vectors, "missing_device", lambda: "")
    monkeypatch.setattr(vectors, "on_device", stand_in)
    monkeypatch.setattr(vectors, "free_mb", iter([900.0, 400.0]).__next__)
    monkeypatch.setattr(vectors, "built_there", lambda kind, found: 1.5)
    figures, missing = vectors.measured("ivf", search, "cuda")
    assert missing == {}
    assert (figures["on_card.card_mb"], figures["on_card.card_build_s"]) == (500.0, 1.5)
    assert figures["on_card.recall"] == pytest.approx(figures["on_cpu.recall"])
    assert {"on_card.batch_1.query_ms", "on_card.batch_16.query_ms"} <= set(figures)
    assert copies


# ---------------------------------------------------------------------------------------------- models


@pytest.fixture(scope="module")
def exported(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported.over(world, tmp_path_factory.mktemp("onnx"))


def test_requests_at_once_are_answered_at_once(exported: Exported) -> None:
    models = exported.models(inference.KINDS["cpu"])
    shapes = {name: case(models, 0).shape for name, case in exported.cases(3).items()}
    dim = exported.dim
    assert shapes == {
        "user_tower": (3, dim),
        "cross_500": (3, 500, 3),
        "cross_1000": (3, 1_000, 3),
        "rank_500": (3, 500, 3),
    }


def test_the_rate_is_that_of_the_best_batch(exported: Exported) -> None:
    figures, missing = inference.measured(exported, (1, 2), 0.01, "cpu")
    rates = [1000 * b / figures[f"cpu.rank_500.batch_{b}.p50_ms"] for b in (1, 2)]
    assert figures["rank.500.requests_per_s"] == pytest.approx(max(rates))
    assert missing == {}


def test_an_onnxruntime_without_cards_names_the_package_and_gives_no_rate(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.onnxruntime, "get_available_providers", lambda: [CPU])
    figures, missing = inference.measured(exported, (1,), 0.01, "cuda")
    assert "install onnxruntime-gpu" in missing["cuda"]
    assert "rank.500.requests_per_s" not in figures


def test_a_provider_that_did_not_start_is_not_taken_for_a_card(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "missing_provider", lambda: "")
    monkeypatch.setattr(inference, "KINDS", dict.fromkeys(inference.KINDS, (CPU,)))  # what ONNX Runtime falls back to
    figures, missing = inference.measured(exported, (1,), 0.01, "cuda")
    assert "did not start" in missing["cuda"]
    assert "rank.500.requests_per_s" not in figures


def test_a_card_is_held_against_the_cpu(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "missing_provider", lambda: "")
    monkeypatch.setattr(inference, "KINDS", dict.fromkeys(inference.KINDS, (CPU,)))
    monkeypatch.setattr(inference, "CUDA", CPU)  # stands in for a card that answers right
    figures, missing = inference.measured(exported, (1,), 0.01, "cuda")
    assert missing == {}
    assert figures["cuda.cross_500.difference"] == 0
    assert figures["rank.500.requests_per_s"] > 0
    off = {"cuda.rank_500.difference": 2 * TOLERANCE, "cuda_tf32.rank_500.difference": 1.0, "cuda.x.difference": 0.0}
    assert set(inference.wrong(off)) == {"cuda.rank_500.difference"}


# ---------------------------------------------------------------------------------------------- a run


def test_a_card_is_spread_over_only_where_there_are_several() -> None:
    alone, both = (steps("train", WORLD, CARD, "cuda", cards) for cards in (1, 2))
    assert [step.missing for step in alone if "ddp" in step.name] == [plan.ALONE] * 4
    assert {step.processes for step in both if "ddp" in step.name} == {2}
    assert {step.processes for step in both if "ddp" not in step.name} == {1}
    assert {step.processes for step in steps("train", WORLD, TRY, "cpu", 0) if "ddp" in step.name} == {2}


def test_without_a_card_one_line_says_what_is_missing_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cuda, reason in ((None, "built without CUDA"), ("13.0", "sees no card")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        assert main.main([]) == 2
        printed = capsys.readouterr().out
        assert reason in printed
        assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def run_with(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str, end: type[BaseException] = Failed) -> int:
    """A try in which each step tells a figure, but for the compiled ones, which end with `end`."""

    def told(module: str, given: Sequence[str], out: Path, limit_s: float, processes: int = 1) -> Told:
        if "bf16_compiled" in given:
            raise end("no compiler")
        if module.endswith("inference"):
            return Told({"cuda.rank_500.difference": 1.0, "rank.500.requests_per_s": 900.0}, {"cuda_tf32": "too old"})
        return Told({"step_ms": 2.5, "processes": float(processes), "recall": float("inf")})

    monkeypatch.chdir(folder)
    monkeypatch.setattr(main, "apart", told)
    monkeypatch.setattr(main, "prepared", lambda root, items: WORLD)
    monkeypatch.setattr(card, "driver", lambda: None)
    return main.main(["--device", "cpu", *arguments])


def test_what_fails_ends_alone_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, tmp_path) == 1
    figures = json.loads((tmp_path / "build" / "bench-gpu-try.json").read_text())
    assert all(name.startswith("try.") for name in figures), "nobody may take these for a card's"
    assert figures["try.train.two_tower.batch_4.bf16_ddp.processes"] == 2
    assert figures["try.rank.500.requests_per_s"] == 900
    told = json.loads((tmp_path / "build" / "bench-gpu-try.machine.json").read_text())
    assert (told["device"], told["cards"]) == ("cpu", [])
    assert told["missing"] == {"onnx.cuda_tf32": "too old"}
    assert told["failed"]["train.dlrm.batch_8.bf16_compiled"] == "no compiler"
    assert told["failed"]["onnx.cuda.rank_500.difference"] == "1 off the CPU's"
    assert told["failed"]["vectors.20000.flat.recall"] == "is inf"
    printed = capsys.readouterr().out
    assert "cpu: a try in small" in printed
    assert "not measured: onnx.cuda_tf32: too old" in printed


def test_what_was_measured_before_an_interrupt_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--only", "train", "--out")
    assert run_with(monkeypatch, tmp_path, *asked, "ctrl-c.json", end=KeyboardInterrupt) == main.INTERRUPTED
    with pytest.raises(SystemExit):
        run_with(monkeypatch, tmp_path, *asked, "sigterm.json", end=SystemExit)
    for out in ("ctrl-c.json", "sigterm.json"):
        assert [name for name in json.loads((tmp_path / out).read_text()) if name.endswith("step_ms")] == [
            "try.train.two_tower.batch_4.fp32.step_ms",
            "try.train.two_tower.batch_4.bf16.step_ms",
        ]


def test_a_step_in_a_process_of_its_own_tells_what_it_measured_or_why_not(tmp_path: Path) -> None:
    given = ["flat", "--device", "cpu", "--batches", "1", "--seconds", "0.01", "--items"]
    told = apart("bench.gpu.vectors", [*given, "300"], tmp_path / "flat.json", limit_s=60)
    assert told.figures["on_cpu.recall"] == 1.0
    with pytest.raises(Failed, match="ValueError"):
        apart("bench.gpu.vectors", [*given, "0"], tmp_path / "flat.json", limit_s=60)
    assert not (tmp_path / "flat.json").exists()


def test_of_several_errors_the_one_that_began_it_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "W torch.distributed.run\nException ignored in: <function>\n[rank1]: Traceback\n[rank1]: torch.OutOfMemoryError: CUDA out of memory.\n"
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n=====\n"
    )
    assert error_in(log) == "torch.OutOfMemoryError: CUDA out of memory."
    log.write_text("nothing of the kind\n")
    assert error_in(log) == ""


def test_a_step_does_not_outlive_who_began_it() -> None:
    child = "from bench.gpu.apart import end_with_parent as e; import time; e(); print(flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True, stdout=-1);"
    parent += "p.stdout.read(1); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        step = psutil.Process(int(started.stdout.readline()))
        started.kill()
    gone, _ = psutil.wait_procs([step], timeout=10)
    assert gone or step.status() == psutil.STATUS_ZOMBIE


def test_calls_are_repeated_at_least_so_often_and_the_first_are_left_out() -> None:
    calls: list[int] = []
    assert len(wall_ms(calls.append, seconds=0.0, at_least=4)) == 4
    assert calls == [0, 1, 0, 1, 2, 3]


def test_sizes_may_be_asked_for() -> None:
    chosen = main.parser().parse_args(["--vectors", "5000"])
    assert main.sizes_of(chosen, TRY) == replace(TRY, vectors=5_000)
