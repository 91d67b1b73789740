"""Event files are looked for beside a job that is writing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.event_files import finished


def test_a_staging_folder_that_goes_meanwhile_hides_no_finished_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark writes below `_temporary`, moves what is finished, and removes the rest whoever looks."""
    made = ["batch=1/date=2026-01-31/part.parquet", "batch=2/_temporary/0/part.parquet", "batch=2/.new.parquet"]
    for name in made:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    look = os.scandir

    def late(path: Any) -> Any:
        if not isinstance(path, int) and Path(path).name.startswith("_"):
            shutil.rmtree(path)
        return look(path)

    monkeypatch.setattr(os, "scandir", late)
    assert finished(tmp_path) == [tmp_path / made[0]]
