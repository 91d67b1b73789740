"""Triton's own environment agrees with Winnow's where it must."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parts.triton import ROOT, triton
from winnow.errors import FailedPrecondition


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def test_a_model_is_run_by_the_same_onnx_runtime_here_and_there() -> None:
    there = pins(ROOT / "deploy" / "triton" / "requirements.lock")
    assert there["onnxruntime"] == pins(ROOT / "requirements.lock")["onnxruntime"]
    assert there["numpy"].startswith("1."), "with numpy 2 this Triton returns empty outputs"


def test_without_its_environment_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"scripts/triton\.py"):
        triton(tmp_path / "t", 1, 2, environment=tmp_path / "nowhere")
    assert not (tmp_path / "t").exists()
