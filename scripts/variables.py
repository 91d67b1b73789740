"""Write winnow/variables/known.py: the names of every variable that a part of Winnow reads.

    .venv/bin/python -m scripts.variables            write it
    .venv/bin/python -m scripts.variables --check    only say whether it is current

A service's image holds its own settings alone, and must not take those of the others for mistakes: so the names lie
in a file. They come from where they are declared: the services' settings, the options of the command line, and what
is read from the environment by name, in Python or in YAML.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from cli.main import app
from services.all import Settings

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "winnow" / "variables" / "known.py"
READ = re.compile(r"""environ(?:\.get\(|\[)"(WINNOW_[A-Z0-9_]+)"|\$\{(WINNOW_[A-Z0-9_]+)""")
READERS = ("*.py", "*.yaml", "*.yml", "*.sh", ":!tests", ":!deploy/helm")
HEAD = '''"""Written by scripts/variables.py from where variables are declared; do not edit."""

KNOWN = frozenset(
    {
'''


def of_settings() -> Iterator[str]:
    for name in Settings.model_fields:
        yield f"WINNOW_{name.upper()}"


def of_options(command: Any) -> Iterator[str]:
    """Of a command of the command line and those below it."""
    for option in command.params:
        if option.envvar:
            yield str(option.envvar)
    for below in getattr(command, "commands", {}).values():
        yield from of_options(below)


def read_by_name() -> Iterator[str]:
    listing = subprocess.run(["git", "ls-files", *READERS], cwd=ROOT, check=True, capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        for in_python, in_text in READ.findall((ROOT / line).read_text(encoding="utf-8")):
            yield in_python or in_text


def written() -> str:
    names = {*of_settings(), *of_options(typer.main.get_command(app)), *read_by_name()}
    return HEAD + "".join(f'        "{name}",\n' for name in sorted(names)) + "    }\n)\n"


def main() -> int:
    if "--check" in sys.argv[1:]:
        current = FILE.is_file() and FILE.read_text(encoding="utf-8") == written()
        if not current:
            print("known variables: not current; run python -m scripts.variables")
        return int(not current)
    FILE.write_text(written(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
