"""Make the environment that Triton runs in, apart from Winnow's own: it needs a numpy before 2.

    .venv/bin/python scripts/triton.py [folder]         .venv-triton where none is named

The pins with their hashes are in deploy/triton/requirements.lock; uv looks where pip was told to look, as
scripts/environment.py says. What is there already is left alone.
"""

import sys
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "triton" / "requirements.lock"

if __name__ == "__main__":
    environment.apart(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".venv-triton", LOCK)
