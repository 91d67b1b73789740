"""The training loop: the same seed gives the same weights, also after a kill, also from two processes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.loop import Batch, History, LoopSettings, fit, place, read_checkpoint, seed_everything, shuffled

ROOT = Path(__file__).parents[2]
ROWS = 960
TIMEOUT_S = 120

x = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(0))
y = (x.sum(1) > 0).float()


def batches(size: int):
    def epoch(epoch: int, rank: int, world: int) -> list[Batch]:
        return [{"x": x[rows], "y": y[rows]} for rows in shuffled(ROWS, size, 3, epoch, rank, world)]

    return epoch


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(model(batch["x"])[:, 0], batch["y"])


def net(dropout: float = 0.2) -> nn.Module:
    seed_everything(1)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 1))


def trained(settings: LoopSettings, size: int = 32, dropout: float = 0.2) -> tuple[nn.Module, History]:
    model = net(dropout)
    return model, fit(model, batches(size), loss, settings)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


SCRIPT = """
import itertools, os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
import torch
from tests.training import test_loop as t

torch.set_num_threads(1)
if sys.argv[3:]:  # the checkpoint that it dies of, before it is in its place
    flushed, last, flush = itertools.count(1), int(sys.argv[3]), os.fsync
    os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL) if next(flushed) == last else flush(file)
settings = t.LoopSettings(epochs=3, lr=1e-2, seed=3, warmup_steps=10, checkpoint=Path(sys.argv[1]), checkpoint_every_s=0)
size, dropout = (16, 0.0) if "WORLD_SIZE" in os.environ else (32, 0.2)
model, history = t.trained(settings, size, dropout)
torch.save({{"weights": t.weights(model), "steps": history.steps}}, sys.argv[2] + os.environ.get("RANK", ""))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "train.py"
    file.write_text(SCRIPT.format(root=str(ROOT)))
    return file


def start(*command: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *map(str, command)], env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT)


def result(file: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(file, weights_only=True))


def steps_done(checkpoint: Path) -> int:
    found = read_checkpoint(checkpoint, torch.device("cpu"))
    return 0 if found is None else int(found["history"]["steps"])


def test_a_killed_run_ends_with_the_weights_it_would_have_had(script: Path, tmp_path: Path) -> None:
    assert start(script, tmp_path / "whole.ckpt", tmp_path / "whole").wait(TIMEOUT_S) == 0
    whole = result(tmp_path / "whole")

    checkpoint = tmp_path / "killed.ckpt"
    assert start(script, checkpoint, tmp_path / "killed", 20).wait(TIMEOUT_S) == -signal.SIGKILL
    assert steps_done(checkpoint) == 19 < whole["steps"]
    assert start(script, checkpoint, tmp_path / "killed").wait(TIMEOUT_S) == 0
    assert torch.equal(result(tmp_path / "killed")["weights"], whole["weights"])


def test_two_processes_learn_what_one_learns_from_batches_twice_as_large(script: Path, tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    assert start(*torchrun, script, tmp_path / "two.ckpt", tmp_path / "two").wait(TIMEOUT_S) == 0
    first, second = result(tmp_path / "two0"), result(tmp_path / "two1")
    assert torch.equal(first["weights"], second["weights"])
    alone, history = trained(LoopSettings(epochs=3, lr=1e-2, seed=3, warmup_steps=10), dropout=0.0)
    assert history.steps == first["steps"]
    assert torch.allclose(weights(alone), first["weights"], atol=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, two, other = (trained(LoopSettings(epochs=2, seed=seed))[0] for seed in (5, 5, 6))
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))


def test_a_compiled_run_learns_the_same_under_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # C++ would take half a minute
    settings = LoopSettings(epochs=2, lr=1e-2, checkpoint=tmp_path / "c")
    plain, told = trained(settings, dropout=0.0)
    faster, heard = trained(replace(settings, compiled=True), dropout=0.0)
    assert heard.steps == told.steps
    assert heard.losses == pytest.approx(told.losses, abs=1e-4)
    assert torch.allclose(weights(faster), weights(plain), atol=1e-4)
    saved = read_checkpoint(tmp_path / "c", torch.device("cpu"))
    assert saved is not None
    assert list(saved["model"]) == list(faster.state_dict()) == list(plain.state_dict())


def test_what_rounds_otherwise_is_another_run() -> None:
    plain = LoopSettings()
    others = [replace(plain, compiled=True), replace(plain, precision="bf16"), replace(plain, precision="fp32")]
    assert len({settings.identity(1) for settings in (plain, *others)}) == 4


def test_half_precision_is_near_and_only_where_it_was_asked_for() -> None:
    settings = LoopSettings(epochs=2, lr=1e-2)
    plain, told = trained(settings, dropout=0.0)
    same, _ = trained(replace(settings, precision="fp32"), dropout=0.0)
    half, heard = trained(replace(settings, precision="bf16"), dropout=0.0)
    assert torch.equal(weights(plain), weights(same))
    assert not torch.equal(weights(plain), weights(half))
    assert heard.losses == pytest.approx(told.losses, rel=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in half.parameters())


def test_a_finished_run_is_not_run_again_and_another_run_does_not_use_its_checkpoint(tmp_path: Path) -> None:
    settings = LoopSettings(epochs=2, checkpoint=tmp_path / "c", run="one")
    model, history = trained(settings)
    saved = read_checkpoint(tmp_path / "c", torch.device("cpu"))
    assert saved is not None
    began = time.monotonic()
    again, second = trained(settings)
    assert saved["history"]["seconds"] <= second.seconds <= saved["history"]["seconds"] + time.monotonic() - began
    assert 0 < saved["history"]["seconds"] <= history.seconds
    assert second.losses == history.losses
    assert torch.equal(weights(model), weights(again))
    _, other = trained(LoopSettings(epochs=3, checkpoint=tmp_path / "c", run="another"))
    assert len(other.losses) == 3


def test_the_best_epoch_is_kept_and_patience_ends_the_run() -> None:
    qualities = [0.1, 0.5, 0.4, 0.3, 0.9]
    kept: list[torch.Tensor] = []

    def quality(epoch: int, model: nn.Module) -> float:
        kept.append(weights(model).clone())
        return qualities[epoch]

    model = net()
    history = fit(model, batches(32), loss, LoopSettings(epochs=5, patience=2), on_epoch=quality)
    assert (history.best_epoch, len(history.losses)) == (1, 4)
    assert torch.equal(weights(model), kept[1])
    assert not model.training


def test_training_lowers_the_loss_and_a_loss_that_is_not_finite_stops_it() -> None:
    _, history = trained(LoopSettings(epochs=4, lr=1e-2))
    assert history.losses[-1] < history.losses[0] / 1.5
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(net(), batches(32), lambda model, batch: loss(model, batch) * float("nan"), LoopSettings(epochs=1))


def test_every_rank_gets_as_many_rows_and_together_they_see_all() -> None:
    ranks = [shuffled(101, 10, 0, 2, rank, 3) for rank in range(3)]
    assert len({tuple(len(batch) for batch in rank) for rank in ranks}) == 1
    assert set(np.concatenate([np.concatenate(rank) for rank in ranks]).tolist()) == set(range(101))
    assert not np.array_equal(np.concatenate(shuffled(101, 10, 0, 1)), np.concatenate(shuffled(101, 10, 0, 2)))


def test_alone_the_place_is_the_first_of_one() -> None:
    with place() as here, place() as inner:
        assert (here.rank, here.world) == (inner.rank, inner.world) == (0, 1)
