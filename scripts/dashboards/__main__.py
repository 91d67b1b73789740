"""Write the dashboards' JSON: `python -m scripts.dashboards`; with `--check` only say whether it is current."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from scripts.dashboards import data_plane, experiments, funnel, models, platform

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "winnow" / "dashboards"
BOARDS = {
    "platform": platform,
    "funnel": funnel,
    "models": models,
    "data-plane": data_plane,
    "experiments": experiments,
}


def text_of(document: str) -> str:
    """The dashboard as Grafana's model reads and writes it; an error where the model does not know a field."""
    return written(Dashboard.from_json(json.loads(document)))


def written(dashboard: Any) -> str:
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(dashboard) + "\n"


def documents() -> dict[str, str]:
    """Text by file name."""
    register_default_plugins()
    return {f"{name}.json": text_of(written(module.dashboard().build())) for name, module in BOARDS.items()}


def main() -> int:
    wanted = documents()
    there = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.json")}
    if "--check" in sys.argv[1:]:
        if there != wanted:
            print("dashboards: not current; run python -m scripts.dashboards")
        return int(there != wanted)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in there.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
