"""The rankers by name. A new one is a file, a line here, and tests/training/test_ranking_*.py runs over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.models import dlrm_graphs, summed
from training.models.dcn_v2 import DcnV2
from training.models.deepfm import DeepFM
from training.models.dlrm import Dlrm
from training.models.ranker import Ranker


@dataclass(frozen=True, slots=True)
class Kind:
    """How a ranker is made, and how it becomes the four ONNX files of a bundle (docs/bundles.md) in a folder."""

    make: type[Ranker]
    export: Callable[[Any, Path], None]


RANKERS = {
    Dlrm.name: Kind(Dlrm, dlrm_graphs.export),
    DcnV2.name: Kind(DcnV2, summed.export),
    DeepFM.name: Kind(DeepFM, summed.export),
}
