"""A chain survives its writers: killed in the middle of a line, out of room, started again, two at once; signed or not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.audits import ROOM, answer, chain_in, kinds, lines_of, verified
from winnow.audit.chain import Chain
from winnow.audit.folder import read_head, write_head
from winnow.audit.record import read
from winnow.audit.signature import Signer, Verifier
from winnow.errors import DiskFull, FailedPrecondition

WRITER = """
import sys
from pathlib import Path
from tests.audits import answer
from winnow.audit.chain import Chain
chain = Chain(Path(sys.argv[1]), "gateway", free_bytes=0)
n = 0
while True:
    chain.append([answer(n + k) for k in range(7)])
    n += 7
    if n % 700 == 0:
        chain.sync()
        print(n, flush=True)
"""


def test_a_writer_that_is_killed_leaves_at_most_one_torn_line_and_the_next_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=10)
        verdict = verified(folder)
        assert verdict.every_fault == []
    chain_in(folder, 5)
    [report] = verified(folder).reports
    assert report.faults == []
    assert len([note for note in report.notes if "killed" in note]) == 2


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_torn_line_is_told_from_a_record_that_was_cut(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "audit"
    own = chain_in(folder, 10)
    [file] = own.glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole + lines_of(11)[10][:cut])  # never completed: the head does not know of it
    verdict = verified(folder)
    assert verdict.every_fault == []
    assert f"the last {cut} bytes" in verdict.reports[0].notes[0]
    file.write_bytes(whole[:-cut])  # the head does
    [fault] = verified(folder).every_fault
    assert (fault.kind.value, fault.line, fault.seq) == ("altered", 10, 9)


def test_torn_bytes_are_moved_aside_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    own = chain_in(folder, 10)
    [file] = own.glob("*.jsonl")
    with file.open("ab") as stream:
        stream.write(b'{"hash":"12')
    chain_in(folder, 3)
    [report] = verified(folder).reports
    assert report.faults == []
    assert report.records == 13
    start = read(file.read_bytes().splitlines()[10])
    assert start.body["torn_bytes"] == 11
    assert file.with_suffix(".torn").read_bytes() == b'{"hash":"12'


def test_two_writers_of_a_kind_have_chains_of_their_own_which_know_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    one, other = (Chain(folder, "gateway", free_bytes=ROOM) for _ in range(2))
    one.append([answer(1)])
    one.sync()
    other.checkpoint()
    other.close()
    one.close()
    assert one.name != other.name
    verdict = verified(folder)
    assert verdict.every_fault == []
    [file] = other.folder.glob("*.jsonl")
    told = [read(line).body["heads"] for line in file.read_bytes().splitlines()]
    assert [list(heads.get(one.name, [0])[:1]) for heads in told] == [[0], [1], [0]]


def test_a_full_disk_takes_nothing_and_the_chain_goes_on_after(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    chain = Chain(folder, "gateway", free_bytes=ROOM)
    chain._free_bytes = 2**62
    with pytest.raises(DiskFull):
        chain.append([answer(1)])
    chain._free_bytes = ROOM
    chain.append([answer(2)])
    chain.close()
    [report] = verified(folder).reports
    assert (report.faults, report.records) == ([], 3)


def test_a_write_that_failed_half_way_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "audit"
    chain = Chain(folder, "gateway", free_bytes=ROOM)

    def half(file: int, content: bytes, at: int) -> None:
        os.pwrite(file, content[: len(content) // 2], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    def broken_too(file: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("winnow.audit.chain.write_all", half)
        broken.setattr("winnow.audit.chain.os.ftruncate", broken_too)  # not even that
        with pytest.raises(DiskFull):
            chain.append([answer(n) for n in range(9)])
    chain.append([answer(1)])
    chain.close()
    [report] = verified(folder).reports
    assert (report.faults, report.records) == ([], 3)


def test_a_chain_whose_end_was_altered_is_left_to_the_auditor(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    own = chain_in(folder, 10)
    [file] = own.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-5] + b"XXXX\n")
    before = file.read_bytes()
    other = chain_in(folder, 3)
    assert other != own
    assert file.read_bytes() == before
    assert kinds(verified(folder)) == ["altered"]


# ---------------------------------------------------------------------------------------------- signatures


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    made = Ed25519PrivateKey.generate()
    (folder / "key").write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "public").write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return folder / "key", folder / "public"


def test_signed_chains_hold_and_a_chain_built_anew_without_the_key_does_not(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    signer, verifier = Signer(keys[0]), Verifier(keys[1])
    folder = tmp_path / "audit"
    own = chain_in(folder, 10, signer=signer)
    assert verified(folder, verifier=verifier).every_fault == []
    name = read_head(own)
    assert name is not None
    forged = lines_of(10, name.chain)
    [file] = own.glob("*.jsonl")
    file.write_bytes(b"\n".join(forged) + b"\n")
    write_head(own, type(name)(name.chain, 9, forged[-1][9:73].decode()))
    assert verified(folder).every_fault == []  # whole by itself: that is what the key is for
    assert set(kinds(verified(folder, verifier=verifier))) == {"forged"}


def test_an_older_signature_does_not_hold_for_another_head(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    folder = tmp_path / "audit"
    own = chain_in(folder, 10, signer=Signer(keys[0]))
    head = read_head(own)
    assert head is not None
    [file] = own.glob("*.jsonl")
    eighth = read(file.read_bytes().splitlines()[8])
    write_head(own, type(head)(head.chain, 8, eighth.hash, head.signature))
    assert kinds(verified(folder, verifier=Verifier(keys[1]))) == ["forged"]


def test_keys_that_are_none_are_refused_by_name(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    (tmp_path / "nonsense").write_bytes(b"no key")
    for made, file in ((Signer, tmp_path / "nonsense"), (Verifier, keys[0]), (Signer, tmp_path / "missing")):
        with pytest.raises(FailedPrecondition, match=file.name):
            made(file)
