"""One chain, record by record: whether each is the one that was written, in its place, and what is wrong where it is not.

Sees lines, not files: the same check reads a folder and a topic. Memory does not grow with the chain, but by what is
missing from it and by where other chains said that it stood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from winnow.audit.record import CHECKPOINT, GAP, GENESIS, START, STOP, NoRecord, Read, claimed_seq, read
from winnow.audit.signature import Verifier

MAX_FAULTS = 1_000  # told of one chain; more are counted
MAX_HOLES = 10_000  # runs of missing records that may still turn up out of order


class Kind(StrEnum):
    ALTERED = "altered"  # its bytes do not give its hash, or the record before it is not the one it was written after
    REMOVED = "removed"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    FOREIGN = "foreign"  # of another chain
    FORGED = "forged"  # a signature is missing or wrong


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: `line` counts from 1 in `file`, `seq` in the chain; 0 and -1 where there is none."""

    kind: Kind
    chain: str
    file: str
    line: int
    seq: int
    detail: str


@dataclass(frozen=True, slots=True)
class Stand:
    """Where somebody said that a chain stood: `by` says who."""

    hash: str
    by: str


Stands = Mapping[int, Stand]
"""By sequence number."""


@dataclass
class Report:
    """What was found of one chain. `notes` are no faults: they say what the chain says about itself."""

    chain: str
    records: int = 0
    first_seq: int = -1
    last_seq: int = -1
    last_hash: str = ""
    first_at: str = ""
    last_at: str = ""
    unaudited: int = 0
    faults: list[Fault] = field(default_factory=list)
    more_faults: int = 0
    notes: list[str] = field(default_factory=list)


class Check:
    """Feed it every line of one chain in order, then `finish`."""

    def __init__(
        self,
        chain: str = "",
        *,
        stands: Stands | None = None,
        verifier: Verifier | None = None,
        resent: int = 0,
        begins: int | None = 0,
        after: str | None = None,
    ) -> None:
        """`chain`: its name where it is known, else the first record's. `resent`: how far back a record may come again
        as it was (a topic takes some twice). `begins`: the first number that must be there; None: whichever comes. `after`: the hash
        before it, where earlier ones were taken away rightly."""
        self.report = Report(chain)
        self._stands = dict(stands or {})
        self._verifier = verifier
        self._resent = resent
        self._recent: dict[int, str] = {}
        self._begun = begins is not None
        self._expected = begins or 0
        self._newest: str | None = GENESIS if begins == 0 else after  # None: not known, so not compared
        self._holes: dict[int, tuple[int, str, int]] = {}  # first missing: last missing, and where that was noticed
        self._broken = 0  # lines that were no records since the last that was one
        self._signed = False
        self._stop = -1  # the newest orderly end
        self._only_starts = True  # since then
        self._place = ("", 0)

    def feed(self, line: bytes, file: str, number: int) -> None:
        """One line without its end."""
        self._place = (file, number)
        try:
            record = read(line)
        except NoRecord as wrong:
            self._altered(line, str(wrong))
            return
        if not self.report.chain:
            self.report.chain = record.chain
        if not self._begun:
            self._begun, self._expected = True, record.seq
        if record.chain != self.report.chain:
            self._fault(Kind.FOREIGN, record.seq, f"is record {record.seq} of the chain {record.chain}")
        elif record.seq >= self._expected:
            self._forward(record)
        else:
            self._backward(record)

    def seen(self, stands: Stands) -> None:
        """Where the chain is said to have stood, learnt after its records were fed: only the end is still compared, and
        what came lately."""
        self._stands |= stands
        for seq, stand in stands.items():
            if self._recent.get(seq, stand.hash) != stand.hash:
                self._fault(Kind.ALTERED, seq, f"is not the record that {stand.by} saw there")

    def cut(self, line: bytes, file: str, number: int) -> bool:
        """A last line without an end: whether somebody saw the record that stood there. If nobody did it was never
        completed, which is no fault."""
        seen = max(self._stands, default=-1) >= self._expected + self._broken
        if seen:
            self._place = (file, number)
            self._altered(line, "was cut short")
        return seen

    def finish(self) -> Report:
        """Everything was fed."""
        report = self.report
        if self._broken:
            self._expected += self._broken  # each took the place of one, as far as anybody can tell
        for first, (last, file, number) in self._holes.items():
            self._place = (file, number)
            self._fault(Kind.REMOVED, first, f"{run(first, last)} removed before this line")
        furthest = max(self._stands, default=-1)
        if furthest >= self._expected:
            self._place = (self._place[0], 0)
            gone = f"{run(self._expected, furthest)} removed from the end"
            self._fault(Kind.REMOVED, self._expected, f"{gone}: {self._stands[furthest].by} says so")
        if self._verifier and report.records and not self._signed:
            self._fault(Kind.FORGED, report.last_seq, "nothing in this chain is signed")
        return report

    def _altered(self, line: bytes, why: str) -> None:
        seq = claimed_seq(line)
        place = self._expected + self._broken
        about = "" if seq in (None, place) else f"; it calls itself record {seq}"
        self._fault(Kind.ALTERED, place, f"{why}{about}")
        self._broken += 1
        self._newest = None

    def _forward(self, record: Read) -> None:
        """A record at or beyond the next place."""
        missing_from = self._expected + min(self._broken, record.seq - self._expected)
        if record.seq > missing_from:
            self._hole(missing_from, record.seq - 1)
            self._newest = None
        if self._newest is not None and record.previous != self._newest:
            self._fault(
                Kind.ALTERED,
                record.seq,
                f"was not written after record {record.seq - 1} as it stands: one was rewritten",
            )
        elif self._newest is not None and self._stop == record.seq - 1 >= 0 and record.kind != START:
            self._fault(Kind.FORGED, record.seq, "stands behind an orderly end, where only a start can")
        self._broken = 0
        self._take(record)
        self._ended(record)
        self._expected, self._newest = record.seq + 1, record.hash

    def _ended(self, record: Read) -> None:
        if record.kind == STOP:
            self._stop, self._only_starts = record.seq, True
        elif record.kind != START:
            self._only_starts = False

    def _backward(self, record: Read) -> None:
        """A record whose place has passed."""
        if self._resent and self._recent.get(record.seq, record.hash) == record.hash and not self._missing(record.seq):
            return
        if self._fills(record.seq):
            self._fault(Kind.REORDERED, record.seq, f"stands behind record {self._expected - 1}")
            self._take(record)
        else:
            self._fault(Kind.DUPLICATED, record.seq, "was there already")

    def _take(self, record: Read) -> None:
        report = self.report
        report.records += 1
        at = str(record.body.get("at", ""))
        if report.first_seq < 0:
            report.first_seq, report.first_at = record.seq, at
        if record.seq > report.last_seq:
            report.last_seq, report.last_hash, report.last_at = record.seq, record.hash, at
        if (stand := self._stands.get(record.seq)) is not None and stand.hash != record.hash:
            self._fault(Kind.ALTERED, record.seq, f"is not the record that {stand.by} saw there")
        if self._resent:
            self._recent[record.seq] = record.hash
            self._recent.pop(record.seq - self._resent, None)
        if record.kind == GAP:
            report.unaudited += as_int(record.body.get("unaudited"))
        if record.kind in (START, CHECKPOINT, STOP):
            self._vouched(record)

    def _vouched(self, record: Read) -> None:
        """A record that speaks for the chain as it stood."""
        if self._verifier:
            signature = record.body.get("signature")
            if signature is not None:
                self._signed = True
                if not self._verifier.holds(signature, record.chain, record.seq - 1, record.previous):
                    self._fault(Kind.FORGED, record.seq, "its signature does not hold")
            elif self._signed:
                self._fault(Kind.FORGED, record.seq, "has no signature, although earlier ones had")
        if record.kind == START:
            self._started(record)

    def _started(self, record: Read) -> None:
        body = record.body
        if (lost := body.get("lost")) is not None:
            found = f"record {lost.get('seq')} of {lost.get('chain')}" if isinstance(lost, dict) else "more"
            self._fault(
                Kind.REMOVED, record.seq, f"the writer missed {found} when it started: the end had been cut off"
            )
        if body.get("unclean"):
            torn = as_int(body.get("torn_bytes"))
            cut = f", and {torn} bytes of a line were never completed" if torn else ""
            self.report.notes.append(f"record {record.seq}: the writer before was killed{cut}")
        if (beyond := as_int(body.get("beyond_head"))) > 0:
            self._beyond(record.seq, record.seq - beyond)

    def _beyond(self, start: int, first: int) -> None:
        """Records from `first` on for which no head vouched when the writer came back. A writer says that its start is on
        disk before it writes more: behind an orderly end there can only be starts that it did not live to say so of."""
        which = f"{run(first, start - 1)} beyond the head"
        if self._stop >= 0 and self._stop == first - 1 and not self._only_starts:
            self._fault(Kind.FORGED, first, f"{which}, which was at an orderly end, when record {start} was written")
        else:
            self.report.notes.append(f"record {start}: {which}: nothing vouched for it until then")

    def _hole(self, first: int, last: int) -> None:
        file, number = self._place
        if len(self._holes) < MAX_HOLES:
            self._holes[first] = (last, file, number)
        else:
            self._fault(Kind.REMOVED, first, f"{run(first, last)} removed before this line")

    def _missing(self, seq: int) -> bool:
        return any(first <= seq <= last for first, (last, _, _) in self._holes.items())

    def _fills(self, seq: int) -> bool:
        """Whether this number was missing; it is not any more."""
        for first, (last, file, number) in self._holes.items():
            if first <= seq <= last:
                del self._holes[first]
                if first < seq:
                    self._holes[first] = (seq - 1, file, number)
                if seq < last:
                    self._holes[seq + 1] = (last, file, number)
                return True
        return False

    def _fault(self, kind: Kind, seq: int, detail: str) -> None:
        report = self.report
        if len(report.faults) >= MAX_FAULTS:
            report.more_faults += 1
            return
        file, number = self._place
        report.faults.append(Fault(kind, report.chain, file, number, seq, detail))


def run(first: int, last: int) -> str:
    return f"record {first} was" if first == last else f"records {first} to {last} were"


def as_int(value: Any) -> int:
    return value if type(value) is int else 0
