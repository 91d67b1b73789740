"""Every chain of a folder, and where they say that the others stood: what was altered, removed or reordered.

Reads each file twice, line by line: first for what chains say of each other, then for the records themselves. A folder
may be read while its writers write. Knows no broker and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from winnow.audit.check import Check, Fault, Kind, Report, Stand, as_int
from winnow.audit.folder import HEAD, Head, read_head, segments
from winnow.audit.record import CHECKPOINT, MAX_BYTES, START, STOP, NoRecord, Read, read
from winnow.audit.signature import Verifier
from winnow.claim import taken
from winnow.errors import FailedPrecondition

LINE_BYTES = 2 * MAX_BYTES  # read at a time, whatever the file holds
TOLD = b'"heads":'
PRUNE = "audit.prune"  # an act whose `heads` are the last records that went

Progress = Callable[[int], None]
"""Told now and then how many records were read since."""
AllStands = dict[str, dict[int, Stand]]
"""Where chains are said to have stood, by their names."""
Pruned = dict[str, tuple[int, str]]
"""The last record of each chain that was taken away rightly, and its hash."""


@dataclass
class Verdict:
    """What was found of all chains. `faults` are those of no chain that is there."""

    reports: list[Report] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    pruned: Pruned = field(default_factory=dict)

    @property
    def records(self) -> int:
        return sum(report.records for report in self.reports)

    @property
    def every_fault(self) -> list[Fault]:
        return [*self.faults, *(fault for report in self.reports for fault in report.faults)]


def nothing(records: int) -> None:
    """Progress that nobody watches."""


def verify_folder(
    root: Path,
    *,
    verifier: Verifier | None = None,
    known: AllStands | None = None,
    progress: Progress = nothing,
) -> Verdict:
    """`known`: where chains stood as the auditor knows from elsewhere. FailedPrecondition: there is no audit log here."""
    folders = chains_in(root)
    if not folders and not known:
        raise FailedPrecondition(f"{root} holds no audit log")
    heads = {folder: read_head(folder) for folder in folders}
    stands, pruned = told_in(root, folders, heads, verifier)
    for name, places in (known or {}).items():
        stands[name] = {**stands.get(name, {}), **places}
    verdict = Verdict(pruned=pruned)
    for folder in folders:
        report = verify_chain(root, folder, heads[folder], stands, pruned, verifier, progress)
        if any(other.chain == report.chain for other in verdict.reports):
            report.faults.append(Fault(Kind.FOREIGN, report.chain, name_of(root, folder), 0, -1, "lies here twice"))
        verdict.reports.append(report)
    there = {report.chain for report in verdict.reports}
    for chain in sorted(stands.keys() - there):
        last = max(stands[chain])
        detail = f"the whole chain was removed: {stands[chain][last].by} saw it at record {last}"
        verdict.faults.append(Fault(Kind.REMOVED, chain, "", 0, 0, detail))
    return verdict


def verify_chain(
    root: Path,
    folder: Path,
    head: Head | None,
    stands: AllStands,
    pruned: Pruned,
    verifier: Verifier | None,
    progress: Progress,
) -> Report:
    """One chain's files."""
    name = head.chain if head else first_chain(folder)
    files = segments(folder)
    begins, after = beginning(files, pruned.get(name))
    here = {seq: stand for seq, stand in stands.get(name, {}).items() if seq >= begins}
    check = Check(name, stands=here, verifier=verifier, begins=begins, after=after)
    file, torn = "", 0
    for path in files:
        file, number = name_of(root, path), 0
        for number, line in enumerate(lines(path), 1):
            if line.endswith(b"\n"):
                check.feed(line[:-1], file, number)
            elif path != files[-1] or len(line) > MAX_BYTES:
                check.feed(line, file, number)
            elif not check.cut(line, file, number):
                torn = len(line)
            if number % 10_000 == 0:
                progress(10_000)
        progress(number % 10_000)
    report = check.finish()
    if torn and not taken(folder):
        report.notes.append(f"{file}: the last {torn} bytes are a line that was never completed")
    report.faults += faults_of_head(name_of(root, folder / HEAD), head, report, verifier)
    return report


def beginning(files: list[Path], pruned: tuple[int, str] | None) -> tuple[int, str | None]:
    """The first record that must be there, and the hash before it. Some of what was to go may still be there."""
    if pruned is None:
        return 0, None
    first = int(files[0].stem) if files and files[0].stem.isdigit() else 0
    return (pruned[0] + 1, pruned[1]) if first > pruned[0] else (first, None)


def faults_of_head(file: str, head: Head | None, report: Report, verifier: Verifier | None) -> list[Fault]:
    if head is None:
        if not report.records:
            return []
        return [Fault(Kind.REMOVED, report.chain, file, 0, -1, "the head is gone: what stood at the end is not known")]
    if verifier and not verifier.holds(head.signature, head.chain, head.seq, head.hash):
        return [Fault(Kind.FORGED, report.chain, file, 1, head.seq, "the signature of the head does not hold")]
    return []


def told_in(
    root: Path, folders: list[Path], heads: Mapping[Path, Head | None], verifier: Verifier | None
) -> tuple[AllStands, Pruned]:
    """By the head files, and by what each chain says of the others. A record that was altered says nothing."""
    stands: AllStands = {}
    pruned: Pruned = {}
    for folder, head in heads.items():
        if head is not None:
            stands.setdefault(head.chain, {})[head.seq] = Stand(head.hash, name_of(root, folder / HEAD))
    for folder in folders:
        prunes = Prunes(pruned, verifier)
        for record in tellers(folder):
            prunes.feed(record)
            if record.kind != PRUNE:
                for chain, seq, found in told_by(record):
                    stand = Stand(found, f"record {record.seq} of {record.chain}")
                    stands.setdefault(chain, {}).setdefault(seq, stand)
        prunes.finish(read_head(folder))  # as it is now: a writer may have gone on meanwhile
    return stands, pruned


def tellers(folder: Path) -> Iterator[Read]:
    """The records of a chain that say where others stood."""
    for path in segments(folder):
        for line in lines(path):
            if TOLD in line:
                with suppress(NoRecord):
                    yield read(line.rstrip(b"\n"))


class Prunes:
    """What one chain says was taken away rightly. Where there is a key, only what the writer itself signed counts: its
    next record that is signed, or the head. A start signs what it finds, so it counts up to the head that it found."""

    def __init__(self, pruned: Pruned, verifier: Verifier | None) -> None:
        self._pruned = pruned
        self._verifier = verifier
        self._waiting: list[Read] = []
        self._stopped = False

    def feed(self, record: Read) -> None:
        if record.kind == PRUNE and not self._verifier:
            self._count(record)
        elif record.kind == PRUNE and not self._stopped:
            self._waiting.append(record)
        elif record.kind in (START, CHECKPOINT, STOP):
            beyond = as_int(record.body.get("beyond_head")) if record.kind == START else 0
            if self._holds(record):
                self._signed(record.seq - 1 - beyond)
            if record.kind == START:
                self._waiting = []
            self._stopped = record.kind == STOP

    def finish(self, head: Head | None) -> None:
        if head and self._verifier and self._verifier.holds(head.signature, head.chain, head.seq, head.hash):
            self._signed(head.seq)

    def _holds(self, record: Read) -> bool:
        signature = record.body.get("signature")
        return bool(self._verifier and self._verifier.holds(signature, record.chain, record.seq - 1, record.previous))

    def _signed(self, upto: int) -> None:
        for record in self._waiting:
            if record.seq <= upto:
                self._count(record)
        self._waiting = [record for record in self._waiting if record.seq > upto]

    def _count(self, record: Read) -> None:
        for chain, seq, found in told_by(record):
            if seq > self._pruned.get(chain, (-1, ""))[0]:
                self._pruned[chain] = (seq, found)


def told_by(record: Read) -> Iterator[tuple[str, int, str]]:
    """Chain, number and hash of the heads that a record names."""
    heads = record.body.get("heads")
    for chain, place in heads.items() if isinstance(heads, dict) else ():
        if isinstance(place, list) and len(place) == 2 and type(place[0]) is int:
            yield chain, place[0], str(place[1])


def known_heads(file: Path) -> AllStands:
    """Heads as `winnow audit heads --json` printed them once. FailedPrecondition for anything else."""
    try:
        said: list[dict[str, Any]] = orjson.loads(file.read_bytes())
        kept = "the head that was kept"
        return {str(one["chain"]): {int(one["seq"]): Stand(str(one["hash"]), kept)} for one in said}
    except OSError as gone:
        raise FailedPrecondition(f"{file} cannot be read: {gone.strerror}") from gone
    except (ValueError, KeyError, TypeError) as wrong:
        raise FailedPrecondition(f"{file} holds no heads; winnow audit heads --json prints them") from wrong


def chains_in(root: Path) -> list[Path]:
    """The folders of the chains: `<writer>/<number>`."""
    return sorted(folder for folder in root.glob("*/*") if (folder / HEAD).exists() or segments(folder))


def first_chain(folder: Path) -> str:
    """The chain that the first record which can be read says it is of; "" where none does."""
    for path in segments(folder):
        for line in lines(path):
            try:
                return read(line.rstrip(b"\n")).chain
            except NoRecord:
                continue
    return ""


def lines(path: Path) -> Iterator[bytes]:
    """With their ends; a longer one than any record comes in pieces."""
    with path.open("rb", buffering=2**20) as file:
        while line := file.readline(LINE_BYTES):
            yield line


def name_of(root: Path, path: Path) -> str:
    return str(path.relative_to(root))
