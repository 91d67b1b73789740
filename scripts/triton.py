"""Make the environment that Triton runs in, apart from Winnow's own: it needs a numpy before 2.

    .venv/bin/python scripts/triton.py [folder]         .venv-triton where none is named

The pins with their hashes are in deploy/triton/requirements.lock; uv looks where pip was told to look, as
scripts/environment.py says. What is there already is left alone.
"""

import os
import subprocess
import sys
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "triton" / "requirements.lock"
STAMP = ".ready"


def make(folder: Path) -> None:
    """A virtual environment with exactly the locked packages. The stamp is a copy of the lock that was installed."""
    stamp, lock = folder / STAMP, LOCK.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == lock:
        return
    environment.bootstrap_uv(environment.LOCK.read_text(encoding="utf-8"))
    uv("venv", "--clear", "--quiet", "--python", sys.executable, str(folder))
    python = str(folder / "bin" / "python")
    uv("pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", "-r", str(LOCK))
    stamp.write_text(lock, encoding="utf-8")


def uv(*arguments: str) -> None:
    """uv on another environment than the one that runs this."""
    variables = environment.uv_variables(environment.configured()) | dict(os.environ)
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], env=variables, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".venv-triton")
