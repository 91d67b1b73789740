"""The contracts of pyproject.toml, each broken on purpose in a small house of the same plan."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ["gateway", "feature", "retrieval", "ranking", "explanation"]
HOUSE = {
    "winnow/types.py": "",
    "winnow/v1/types_pb2.py": "import google.protobuf",
    "winnow/wire/ranking.py": "import grpc\nfrom winnow.v1 import types_pb2\nfrom winnow.serving import server",
    "winnow/serving/server.py": "import grpc, grpc_health",
    "services/all.py": "".join(f"import services.{name}.build\n" for name in SERVICES),
    "services/__main__.py": "import services.all",
    "training/train.py": "import torch, pandas, winnow.types",
    "bench/load.py": "import grpc, services.all, winnow.v1.types_pb2",
    "cli/main.py": "import bench.load, grpc, torch, services.all, training.train, winnow.v1.types_pb2, winnow.wire.ranking",
} | {
    f"services/{name}/{file}.py": content
    for name in SERVICES
    for file, content in {
        "scorer": "import winnow.types",
        "build": f"import winnow.wire.ranking, services.{name}.scorer",
        "__main__": f"import winnow.serving.server, winnow.wire.ranking, services.{name}.build",
    }.items()
}


def broken_walls(house: Path) -> list[str]:
    """Names of the contracts that the house breaks."""
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [lint, "--no-cache", "--no-logo"],
        cwd=house,
        env=os.environ | {"PYTHONPATH": str(house), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    broken = [line.partition(" BROKEN")[0] for line in ran.stdout.splitlines() if " BROKEN" in line]
    assert "Contracts:" in ran.stdout, ran.stdout + ran.stderr
    assert bool(broken) == bool(ran.returncode)
    return broken


@pytest.fixture
def house(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, content in HOUSE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
        for folder in path.relative_to(tmp_path).parents[:-1]:
            (tmp_path / folder / "__init__.py").touch()
    return tmp_path


def test_the_plan_itself_breaks_no_wall(house: Path) -> None:
    assert broken_walls(house) == []


@pytest.mark.parametrize(
    ("file", "imports", "wall"),
    [
        ("winnow/types.py", "services.all", "winnow knows nobody"),
        ("winnow/types.py", "training.train", "winnow knows nobody"),
        ("winnow/types.py", "torch.nn", "What serves runs on"),
        ("winnow/types.py", "winnow.v1.types_pb2", "Protobuf stops"),
        ("services/ranking/scorer.py", "services.gateway.scorer", "No service knows another"),
        ("services/ranking/build.py", "services.gateway.scorer", "No service knows another"),
        ("services/ranking/scorer.py", "services.all", "No service knows another"),
        ("services/ranking/scorer.py", "training.train", "winnow knows nobody"),
        ("training/train.py", "services.ranking.scorer", "winnow knows nobody"),
        ("services/ranking/scorer.py", "grpc", "gRPC stays"),
        ("services/ranking/scorer.py", "google.protobuf", "gRPC stays"),
        ("winnow/serving/server.py", "opentelemetry.trace", "OpenTelemetry stays"),
        ("services/ranking/scorer.py", "winnow.v1.types_pb2", "Protobuf stops"),
        ("services/ranking/build.py", "winnow.v1.types_pb2", "Protobuf stops"),
        ("services/ranking/scorer.py", "winnow.wire.ranking", "A port is put on the wire"),
        ("services/ranking/scorer.py", "pandas", "What serves runs on"),
        ("bench/load.py", "cli.main", "winnow knows nobody"),
        ("services/sixth.py", "winnow.types", "No service knows another"),
    ],
)
def test_a_hole_in_a_wall_is_named(house: Path, file: str, imports: str, wall: str) -> None:
    with (house / file).open("a") as module:
        module.write(f"import {imports}\n")
    assert any(name.startswith(wall) for name in broken_walls(house))
