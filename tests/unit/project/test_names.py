"""Names that say nothing are not names."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
EMPTY_WORDS = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [Path(line) for line in listing.splitlines()]
    assert [path for path in paths if EMPTY_WORDS & {part.partition(".")[0].lower() for part in path.parts}] == []
