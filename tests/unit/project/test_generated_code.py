"""What is generated is current: winnow/v1 by scripts/proto.py, the names of known variables by scripts/variables.py."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = """\
syntax = "proto3";
package winnow.v1;
message Ping { string word = 1; }
service Echo { rpc Say(Ping) returns (Ping); }
"""


def proto(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts/proto.py"), "--root", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A proto file whose generated code is current."""
    path = tmp_path / "protos/winnow/v1/echo.proto"
    path.parent.mkdir(parents=True)
    path.write_text(CONTRACT)
    assert proto(tmp_path).returncode == 0
    return path


def test_messages_services_and_their_stubs_are_generated_and_current(contract: Path, tmp_path: Path) -> None:
    names = {path.name for path in (tmp_path / "winnow/v1").iterdir()}
    assert names == {"__init__.py", "echo_pb2.py", "echo_pb2.pyi", "echo_pb2_grpc.py", "echo_pb2_grpc.pyi"}
    assert "from winnow.v1 import echo_pb2" in (tmp_path / "winnow/v1/echo_pb2_grpc.py").read_text()
    assert proto(tmp_path, "--check").returncode == 0


def test_an_edited_contract_is_refused_in_one_line(contract: Path, tmp_path: Path) -> None:
    contract.write_text(CONTRACT.replace("word", "phrase"))
    result = proto(tmp_path, "--check")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "run `make proto`: echo_pb2.py" in result.stderr


def test_an_edit_of_generated_code_is_refused(contract: Path, tmp_path: Path) -> None:
    with (tmp_path / "winnow/v1/echo_pb2.py").open("a") as generated:
        generated.write("by_hand = True\n")
    assert proto(tmp_path, "--check").returncode == 1


def test_what_a_removed_contract_left_is_refused_then_removed(contract: Path, tmp_path: Path) -> None:
    contract.rename(contract.with_name("other.proto"))
    assert "echo_pb2.py" in proto(tmp_path, "--check").stderr
    assert proto(tmp_path).returncode == 0
    assert not (tmp_path / "winnow/v1/echo_pb2.py").exists()
    assert proto(tmp_path, "--check").returncode == 0


def test_a_contract_that_does_not_parse_changes_nothing(contract: Path, tmp_path: Path) -> None:
    before = (tmp_path / "winnow/v1/echo_pb2.py").read_bytes()
    contract.write_text("message {")
    result = proto(tmp_path)
    assert result.returncode == 1
    assert "protoc refused" in result.stderr
    assert (tmp_path / "winnow/v1/echo_pb2.py").read_bytes() == before


def test_the_list_of_known_variables_is_current() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "scripts.variables", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
