"""Whatever is done to a chain of records is found, and the record is named: bytes, lines, tails, files, whole chains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cli.audit import prune
from tests.audits import ROOM, answer, chain_in, checked, head_of, kinds, lines_of, verified
from winnow.audit.chain import Chain
from winnow.audit.check import Fault, Kind, Stand
from winnow.audit.folder import heads_in, last_line, read_head, segments, write_head
from winnow.audit.record import GENESIS, Entry, Read, read, sealed
from winnow.audit.signature import Signer
from winnow.audit.verify import PRUNE, Verdict
from winnow.errors import FailedPrecondition

LINES = lines_of(60)
OTHERS = lines_of(60, "gateway-2")
HEAD = head_of(LINES)
LAST = len(LINES) - 1
rows = st.integers(0, LAST)

MANY = 10_000


def found(lines: list[bytes]) -> list[Fault]:
    return checked(lines, stands=HEAD).faults


def named(faults: list[Fault]) -> list[tuple[str, int, int]]:
    return [(fault.kind.value, fault.line, fault.seq) for fault in faults]


def test_a_chain_that_nobody_touched_has_no_fault() -> None:
    report = checked(LINES, stands=HEAD)
    assert report.faults == []
    assert (report.records, report.first_seq, report.last_seq) == (60, 0, LAST)


@settings(max_examples=300)
@given(row=rows, place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_one_byte_changed_anywhere_is_found_and_named(row: int, place: float, byte: int) -> None:
    line = bytearray(LINES[row])
    at = int(place * len(line))
    assume(line[at] != byte and byte != ord("\n"))
    line[at] = byte
    assert named(found([*LINES[:row], bytes(line), *LINES[row + 1 :]])) == [("altered", row + 1, row)]


@given(row=rows, place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_one_byte_more_or_less_is_found_and_named(row: int, place: float, byte: int) -> None:
    line, at = LINES[row], int(place * len(LINES[row]))
    for changed in (line[:at] + line[at + 1 :], line[:at] + bytes([byte]) + line[at:]):
        assume(b"\n" not in changed and changed != line)
        assert named(found([*LINES[:row], changed, *LINES[row + 1 :]])) == [("altered", row + 1, row)]


@given(row=rows, more=st.integers(0, 5))
def test_records_taken_out_are_found_and_named(row: int, more: int) -> None:
    last = min(row + more, LAST)
    faults = found([*LINES[:row], *LINES[last + 1 :]])
    assert [(fault.kind, fault.seq) for fault in faults] == [(Kind.REMOVED, row)]
    assert (f"record {row} was" if row == last else f"records {row} to {last} were") in faults[0].detail


@given(one=rows, other=rows)
def test_two_records_swapped_are_found_and_named(one: int, other: int) -> None:
    assume(one < other)
    lines = [*LINES]
    lines[one], lines[other] = lines[other], lines[one]
    faults = found(lines)
    assert {fault.kind for fault in faults} == {Kind.REORDERED}
    assert other == one + 1 or one in {fault.seq for fault in faults}
    assert (other, other + 1) not in {(fault.seq, fault.line) for fault in faults}


@given(row=rows, at=rows)
def test_a_record_that_stands_twice_is_found_and_named(row: int, at: int) -> None:
    assume(at > row)
    assert named(found([*LINES[:at], LINES[row], *LINES[at:]])) == [("duplicated", at + 1, row)]


@given(row=rows, other=rows, instead=st.booleans())
def test_a_record_of_another_chain_is_found_and_named(row: int, other: int, instead: bool) -> None:
    faults = found([*LINES[:row], OTHERS[other], *LINES[row + instead :]])
    assert ("foreign", row + 1, other) in named(faults)
    assert ("removed" in {kind for kind, _, _ in named(faults)}) == instead


@given(kept=st.integers(0, LAST))
def test_a_tail_cut_off_at_a_record_is_found_by_the_head(kept: int) -> None:
    faults = found(LINES[:kept])
    assert [(fault.kind, fault.seq) for fault in faults] == [(Kind.REMOVED, kept)]


@given(row=st.integers(0, LAST - 1))
def test_a_chain_made_anew_from_some_record_on_is_found_by_the_head(row: int) -> None:
    forged = [*LINES[:row], *rebuilt(row)]
    assert kinds(checked(forged)) == []  # by itself it is whole
    assert named(found(forged)) == [("altered", len(LINES), LAST)]


@given(row=rows)
def test_a_record_rewritten_together_with_its_hash_is_found_by_the_next_or_by_the_head(row: int) -> None:
    faults = found([*LINES[:row], rebuilt(row)[0], *LINES[row + 1 :]])
    at = min(row + 1, LAST)
    assert named(faults) == [("altered", at + 1, at)]


def rebuilt(row: int) -> list[bytes]:
    """The rest of the chain as somebody without a key would make it, its record `row` another one."""
    newest = LINES[row - 1][9:73].decode() if row else GENESIS
    made = []
    for seq in range(row, len(LINES)):
        entry = Entry("answer", {"request_id": "another"}) if seq == row else answer(seq)
        one = sealed("gateway-1", seq, newest, entry)
        made.append(one.line)
        newest = one.hash
    return made


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["drop", "copy", "flip", "move"]), rows, rows), min_size=1, max_size=6))
def test_nothing_that_changes_the_lines_goes_unseen(edits: list[tuple[str, int, int]]) -> None:
    lines = [*LINES]
    for what, one, other in edits:
        one, other = one % max(len(lines), 1), other % max(len(lines), 1)
        if not lines:
            break
        if what == "drop":
            del lines[one]
        elif what == "copy":
            lines.insert(other, lines[one])
        elif what == "flip":
            lines[one] = lines[one][:other] + bytes([lines[one][other] ^ 1]) + lines[one][other + 1 :]
        else:
            lines.insert(other, lines.pop(one))
    assert bool(found(lines)) == (lines != LINES)


# ---------------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chains, one of 10,000 records in several files, closed by their writers."""
    folder = tmp_path_factory.mktemp("audit") / "audit"
    chain_in(folder, MANY, segment_bytes=2**19)
    chain_in(folder, 20, "cli")
    return folder


@pytest.fixture
def copied(large: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(large, tmp_path / "audit"))


def files(folder: Path) -> list[Path]:
    return sorted((folder / "gateway" / "0").glob("*.jsonl"))


def test_ten_thousand_records_as_they_were_written_have_no_fault(large: Path) -> None:
    verdict = verified(large)
    assert verdict.every_fault == []
    assert sorted(report.records for report in verdict.reports) == [20, MANY]
    assert len(files(large)) > 3


@settings(max_examples=8)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_one_byte_of_ten_thousand_records_is_found_and_named(large: Path, place: float, flip: int) -> None:
    every = files(large)
    at = int(place * sum(file.stat().st_size for file in every))
    for file in every:
        if at < file.stat().st_size:
            break
        at -= file.stat().st_size
    before = file.read_bytes()
    seq, line = int(file.stem) + before.count(b"\n", 0, at), before.count(b"\n", 0, at) + 1
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(bytes([before[at] ^ flip]))
    try:
        faults = verified(large).every_fault
    finally:
        file.write_bytes(before)
    assert (faults[0].file, faults[0].line, faults[0].seq) == (f"gateway/0/{file.name}", line, seq)
    assert faults[0].kind is Kind.ALTERED


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_file_taken_away_is_found(copied: Path, which: int) -> None:
    file = files(copied)[which]
    records = file.read_bytes().count(b"\n")
    file.unlink()
    [fault] = verified(copied).every_fault
    assert (fault.kind, fault.seq) == (Kind.REMOVED, int(file.stem))
    assert f"to {int(file.stem) + records - 1} were" in fault.detail


def test_two_files_that_changed_names_are_found(copied: Path) -> None:
    one, other, *_ = files(copied)
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert set(kinds(verified(copied))) == {"reordered"}


def test_a_tail_cut_off_together_with_its_head_is_found_by_another_chain(large: Path, copied: Path) -> None:
    old = chain_in(copied.parent / "older" / "audit", 5)  # as a chain was once, whole and with a head of its own
    shutil.rmtree(copied / "gateway" / "0")
    shutil.copytree(old, copied / "gateway" / "0")
    verdict = verified(copied)
    assert kinds(verdict) == ["removed"]
    assert "the whole chain" in verdict.every_fault[0].detail


def test_an_end_cut_off_with_the_head_put_back_is_found_by_another_chain(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    chain_in(folder, 10)
    earlier = shutil.copytree(folder / "gateway", tmp_path / "earlier")
    chain_in(folder, 10)  # the same chain goes on
    chain_in(folder, 5, "cli")  # and is seen
    assert verified(folder).every_fault == []
    shutil.rmtree(folder / "gateway")
    shutil.copytree(earlier, folder / "gateway")
    [fault] = verified(folder).every_fault
    assert (fault.kind, fault.seq) == (Kind.REMOVED, 10)
    assert "of cli-" in fault.detail


def test_a_whole_folder_put_back_to_an_earlier_state_is_found_by_the_head_that_the_auditor_kept(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    chain_in(folder, 10)
    earlier = shutil.copytree(folder, tmp_path / "earlier")
    chain_in(folder, 10)
    known = {head.chain: {head.seq: Stand(head.hash, "me")} for head in heads_in(folder)}
    assert verified(folder, known=known).every_fault == []
    assert verified(earlier).every_fault == []  # nothing in it says that there was more
    assert kinds(verified(earlier, known=known)) == ["removed"]


def test_the_cut_is_still_told_after_the_writer_went_on(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    own = chain_in(folder, 30)
    [file] = own.glob("*.jsonl")
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:20]))
    chain_in(folder, 5)
    verdict: Verdict = verified(folder)
    assert kinds(verdict) == ["removed"]
    assert "record 29" in verdict.every_fault[0].detail


def test_a_head_that_is_gone_is_told(copied: Path) -> None:
    (copied / "gateway" / "0" / "head.json").unlink()
    assert kinds(verified(copied)) == ["removed"]


# ------------------------------------------------------------- who may write the folder, but has not the key


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    file = tmp_path_factory.mktemp("key") / "private.pem"
    key = Ed25519PrivateKey.generate()
    file.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    return Signer(file)


@pytest.fixture
def signed(tmp_path: Path, signer: Signer) -> Path:
    """Two signed chains, one in several files, closed by their writers."""
    folder = tmp_path / "audit"
    chain_in(folder, 60, batch=4, segment_bytes=2**12, signer=signer)
    chain_in(folder, 5, "cli", signer=signer)
    return folder


def newest(own: Path) -> Read:
    return read(last_line(segments(own)[-1])[0] or b"")


def put_behind(own: Path, entry: Entry) -> Read:
    """One record more at the end of a chain, hashed as it should be."""
    end = newest(own)
    with segments(own)[-1].open("ab") as file:
        file.write(sealed(end.chain, end.seq + 1, end.hash, entry).line + b"\n")
    return newest(own)


def oldest_go(folder: Path) -> tuple[list[Path], Entry]:
    """The two oldest files of the gateway, and the record that would make it right that they go."""
    files = segments(folder / "gateway" / "0")[:2]
    gone = read(last_line(files[1])[0] or b"")
    return files, Entry(PRUNE, {"phase": "begun", "who": "root@host", "heads": {gone.chain: [gone.seq, gone.hash]}})


def killed(folder: Path, signer: Signer, *entries: Entry) -> Path:
    """A chain whose writer said on disk what it had done, and went without a stop."""
    chain = Chain(folder, "cli", free_bytes=ROOM, signer=signer)
    for entry in entries:
        chain.append([entry])
        chain.sync()
    chain._let_go()
    return chain.folder


def starts(folder: Path, signer: Signer) -> None:
    chain_in(folder, 3, "cli", signer=signer)


@pytest.mark.parametrize("with_key", [True, False])
def test_an_act_put_behind_an_orderly_end_is_found_also_once_an_honest_start_signed_it(
    signed: Path, signer: Signer, with_key: bool
) -> None:
    options = {"verifier": signer.verifier} if with_key else {}
    assert verified(signed, **options).every_fault == []
    forged = put_behind(signed / "cli" / "0", Entry("catalogue.write", {"phase": "done", "who": "key:innocent"}))
    assert [(fault.kind, fault.seq) for fault in verified(signed, **options).every_fault] == [(Kind.FORGED, forged.seq)]
    starts(signed, signer)
    found = verified(signed, **options)
    assert {(fault.kind, fault.seq) for fault in found.every_fault} == {(Kind.FORGED, forged.seq)}
    assert any("beyond the head" in fault.detail for fault in found.every_fault)


def test_files_taken_away_with_a_prune_put_behind_an_orderly_end_are_missed(signed: Path, signer: Signer) -> None:
    files, pruned = oldest_go(signed)
    put_behind(signed / "cli" / "0", pruned)
    for file in files:
        file.unlink()
    for _ in range(2):
        assert {"forged", "removed"} <= set(kinds(verified(signed, verifier=signer.verifier)))
        starts(signed, signer)


@pytest.mark.parametrize("head", ["as it was", "gone", "made up"])
def test_a_prune_put_behind_a_killed_writer_counts_for_nothing(signed: Path, signer: Signer, head: str) -> None:
    own = killed(signed, signer, answer(1))
    assert verified(signed, verifier=signer.verifier).every_fault == []
    files, pruned = oldest_go(signed)
    forged = put_behind(own, pruned)
    if head == "gone":
        (own / "head.json").unlink()
    elif head == "made up":
        was = read_head(own)
        assert was is not None
        write_head(own, type(was)(forged.chain, forged.seq, forged.hash, was.signature))
    for file in files:
        file.unlink()
    starts(signed, signer)
    verdict = verified(signed, verifier=signer.verifier)
    assert kinds(verdict) == ["removed"]
    assert any("beyond the head" in note for report in verdict.reports for note in report.notes)


@pytest.mark.parametrize("ended", ["orderly", "killed", "killed, and started again"])
def test_a_prune_that_the_writer_signed_counts(signed: Path, signer: Signer, ended: str) -> None:
    files, pruned = oldest_go(signed)
    if ended == "orderly":
        chain = Chain(signed, "cli", free_bytes=ROOM, signer=signer)
        chain.append([pruned])
        chain.close()
    else:
        killed(signed, signer, pruned)
    for file in files:
        file.unlink()
    if ended == "killed, and started again":
        starts(signed, signer)
    assert verified(signed, verifier=signer.verifier).every_fault == []


def test_a_writer_killed_between_its_start_and_the_head_is_no_forger(signed: Path, signer: Signer) -> None:
    own = signed / "cli" / "0"
    before = read_head(own)
    assert before is not None
    killed(signed, signer)
    write_head(own, before)
    starts(signed, signer)
    verdict = verified(signed, verifier=signer.verifier)
    assert verdict.every_fault == []
    assert any("beyond the head" in note for report in verdict.reports for note in report.notes)


def test_a_prune_that_nobody_signed_is_not_repeated_by_an_honest_one(
    signed: Path, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = killed(signed, signer, answer(1))
    gone, forged = oldest_go(signed)
    put_behind(own, forged)
    for file in gone:
        file.unlink()
    monkeypatch.setenv("WINNOW_AUDIT_KEY_FILE", str(tmp_path / "key.pem"))
    monkeypatch.setattr("cli.audit.Signer", lambda _: signer)
    left = segments(signed / "gateway" / "0")
    with pytest.raises(FailedPrecondition, match="does not verify"):
        prune("2100-01-01", home=tmp_path)
    assert segments(signed / "gateway" / "0") == left
