"""Where things lie in a home, the folder that holds all that one platform knows."""

from __future__ import annotations

from pathlib import Path

from winnow.errors import FailedPrecondition

DATASET = "dataset.json"  # written last by an ingestion: without it, imports are incomplete


def events_folder(home: Path) -> Path:
    return home / "log" / "events"


def items_folder(home: Path) -> Path:
    return home / "log" / "items"


def users_folder(home: Path) -> Path:
    return home / "log" / "users"


def decisions_folder(home: Path) -> Path:
    return home / "decisions"


def check_complete(home: Path) -> None:
    """FailedPrecondition when an ingestion into this home was interrupted."""
    if not (home / DATASET).is_file() and any((home / "log").glob("*/import-*.parquet")):
        raise FailedPrecondition(f"{home.name}: an ingestion was interrupted; run it again")
