"""What Winnow is made of, and whether any of it is known to be weak.

    .venv/bin/python scripts/supply.py sbom         build/sbom/winnow.cdx.json: CycloneDX, of everything that is locked
    .venv/bin/python scripts/supply.py audit        asks the advisory database of the Python Packaging Authority

The tools live in an environment of their own, build/supply: what checks the lock must not be in it. Their pins with
their hashes are in deploy/supply/requirements.lock; uv looks where pip was told to look, as scripts/environment.py says.
"""

import json
import subprocess
import sys
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "supply" / "requirements.lock"
FOLDER = ROOT / "build" / "supply"
SBOM = ROOT / "build" / "sbom" / "winnow.cdx.json"
AUDIT_S = 600


def sbom() -> None:
    """The same lock gives the same document."""
    SBOM.parent.mkdir(parents=True, exist_ok=True)
    options = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--output-file", str(SBOM)]
    command = [FOLDER / "bin" / "cyclonedx-py", "requirements", *options, str(ROOT / "requirements.lock")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    told = json.loads(SBOM.read_text(encoding="utf-8"))
    print(f"{SBOM.relative_to(ROOT)}: {len(told['components'])} components, CycloneDX {told['specVersion']}")


def audit() -> None:
    """Ends with 1 and a table when something locked has a known weakness."""
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--requirement"]
    command = [FOLDER / "bin" / "pip-audit", *options, str(ROOT / "requirements.lock")]
    sys.exit(subprocess.run(command, timeout=AUDIT_S).returncode)


if __name__ == "__main__":
    environment.apart(FOLDER, LOCK)
    {"sbom": sbom, "audit": audit}[sys.argv[1]]()
