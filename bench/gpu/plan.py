"""What is measured, in order: each step a module in a process of its own, with the name that its figures begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.gpu.card import Device

PARTS = ("train", "vectors", "onnx")
ROOT = Path("build/gpu")
ALONE = "one card: nothing to spread a batch over"
VARIANTS = ("fp32", "bf16", "bf16_compiled", "bf16_ddp")
SPREAD = "bf16_ddp"
INDEXES = ("flat", "ivf")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. `batches` of each model, in windows and in moments: the first is what training takes."""

    items: int = 30_000  # of the world that is trained on
    batches: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {"two_tower": (32, 256), "dlrm": (128, 1_024)}
    )
    steps: int = 50  # of an epoch
    epochs: int = 3  # after the first
    vectors: int = 1_000_000
    searched: tuple[int, ...] = (1, 64, 1_000)  # people at once
    asked: tuple[int, ...] = (1, 8, 32)  # requests at once
    seconds: float = 2.0  # that each call is repeated for
    limit_s: float = 1_800.0  # of a step


CARD = Sizes()
TRY = Sizes(
    items=1_000,
    batches={"two_tower": (4,), "dlrm": (8,)},  # bf16 without a processor's help is twenty times slower
    steps=2,
    epochs=1,
    vectors=20_000,
    searched=(1, 64),
    asked=(1, 8),
    seconds=0.2,
)


@dataclass(frozen=True, slots=True)
class Step:
    """`missing` says why it is not run."""

    name: str
    module: str
    arguments: tuple[str, ...]
    processes: int = 1
    missing: str = ""


def steps(part: str, world: Path, sizes: Sizes, device: Device, cards: int) -> list[Step]:
    """Of one part; `cards` there are."""
    on = ("--device", device)
    if part == "train":
        return [
            trained(model, size, variant, world, sizes, device, cards)
            for model, batches in sizes.batches.items()
            for size in batches
            for variant in VARIANTS
        ]
    if part == "vectors":
        batches = ("--batches", *map(str, sizes.searched), "--seconds", str(sizes.seconds))
        return [
            Step(
                f"vectors.{sizes.vectors}.{kind}",
                "bench.gpu.vectors",
                (kind, *on, "--items", str(sizes.vectors), *batches),
            )
            for kind in INDEXES
        ]
    batches = ("--batches", *map(str, sizes.asked), "--seconds", str(sizes.seconds))
    return [Step("onnx", "bench.gpu.inference", (str(world), *on, *batches))]


def trained(model: str, size: int, variant: str, world: Path, sizes: Sizes, device: Device, cards: int) -> Step:
    """One model, batch and variant. Over all cards, or two processes where there is none."""
    processes = 1 if variant != SPREAD else cards if device == "cuda" else 2
    numbers = {"size": size, "steps": sizes.steps, "epochs": sizes.epochs}
    options = [text for name, number in numbers.items() for text in (f"--{name}", str(number))]
    return Step(
        f"train.{model}.batch_{size}.{variant}",
        "bench.gpu.training",
        (model, variant, str(world), "--device", device, *options),
        processes,
        ALONE if variant == SPREAD and processes < 2 else "",
    )
