"""Where things lie in a home, the folder that holds all that one platform knows."""

from __future__ import annotations

import json
from pathlib import Path

from winnow.errors import FailedPrecondition

DATASET = "dataset.json"  # written last by an ingestion: without it, imports are incomplete
POSITIVE_VALUE = 4.0  # of ratings from 1 to 5


def events_folder(home: Path) -> Path:
    return home / "log" / "events"


def items_folder(home: Path) -> Path:
    return home / "log" / "items"


def users_folder(home: Path) -> Path:
    return home / "log" / "users"


def rules_folder(home: Path) -> Path:
    """The business rules that count, and every version that ever did."""
    return home / "rules"


def decisions_folder(home: Path) -> Path:
    return home / "decisions"


def holds_data(home: Path) -> bool:
    """Whether anything was ever ingested or recorded here."""
    return (home / DATASET).is_file() or any((home / "log").glob("*/*-*"))


def check_complete(home: Path) -> None:
    """FailedPrecondition when an ingestion into this home was interrupted."""
    if not (home / DATASET).is_file() and any((home / "log").glob("*/import-*.parquet")):
        raise FailedPrecondition(f"{home.name}: an ingestion was interrupted; run it again")


def hot_log_file(home: Path) -> Path:
    """The name under which Redis knows this home's event log."""
    return home / "state" / "hot-log"


def feature_file(home: Path, view: str) -> Path:
    """The rows of one stored view (`winnow.feature_views`), as Feast's offline store reads them."""
    return home / "features" / f"{view}.parquet"


def positive_value(home: Path) -> float:
    """The lowest rating that means a person liked an item, as the home's data set has it."""
    try:
        told = json.loads((home / DATASET).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return POSITIVE_VALUE
    return float(told["positive_value"])
