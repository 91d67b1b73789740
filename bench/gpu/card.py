"""Which cards are here, what is missing where none can be used, and what a run's machine file says of them."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any, Literal

from bench.figures import machine

Device = Literal["cuda", "cpu"]
SMI_S = 20.0


def missing_card() -> str:
    """Why no card can be used here, in one line; empty where one can."""
    import torch

    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA; install one that was built for it"
    return f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees no card: is there one, and its driver?"


def cards_of(device: Device) -> list[str]:
    """The names of the cards, in CUDA's order; none for a try on the CPU."""
    import torch

    return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if device == "cuda" else []


def about(device: Device) -> dict[str, Any]:
    """The machine, its cards, and the versions that decide about speed."""
    import faiss
    import onnxruntime
    import torch

    named = {"device": device, "cards": cards_of(device), "driver": driver(), "cuda": torch.version.cuda}
    if device == "cuda":
        named["card_memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
        named["cudnn"] = torch.backends.cudnn.version()
    named |= {"torch": torch.__version__, "faiss": faiss.__version__, "onnxruntime": onnxruntime.__version__}
    named["providers"] = onnxruntime.get_available_providers()
    return machine() | named


def driver() -> str | None:
    """The version of NVIDIA's driver; None where its tool is absent or has nothing to say."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return None
    asked = [smi, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=SMI_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.split("\n")[0].strip() or None if said.returncode == 0 else None
