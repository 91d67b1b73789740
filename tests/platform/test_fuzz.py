"""Requests drawn from the OpenAPI document: no 5xx, no undocumented status, every response as documented."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes import running
from tests.homes import copy_of, registry_of

pytestmark = [pytest.mark.platform, pytest.mark.slow]

CASES = 2_000
# make fuzz asks for more, and for others
EXAMPLES, SECONDS, SEED = (
    os.environ.get(f"FUZZ_{name}", usual) for name, usual in (("EXAMPLES", "25"), ("SECONDS", "60"), ("SEED", "1"))
)
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_no_request_from_the_openapi_document_breaks_the_face(served_home: Path, tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("schemathesis")
    home = copy_of(served_home, tmp_path / "home")
    with running(home, "one_process", tmp_path / "logs", registry_of(served_home)) as one:
        command = [tool, "run", f"http://127.0.0.1:{one.rest}/openapi.json", "--checks", CHECKS, "--seed", SEED]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--max-time", SECONDS]
        command += ["--suppress-health-check", "all", "--no-color"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=int(SECONDS) + 180, cwd=tmp_path, check=False
        )
    counted = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert counted, done.stdout[-3_000:] + done.stderr[-1_000:]
    generated, passed = map(int, counted.groups())
    print(f"{generated} cases, {passed} passed")
    assert passed == generated, done.stdout[-6_000:]
    assert generated >= CASES
