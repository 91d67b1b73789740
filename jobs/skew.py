"""The no-skew job: `python -m jobs.skew --home …` computes again, from the logs, what every logged answer was made from.

For each line of the decision log, in files or in the topic, the state of the person is computed at the log position
that the answer included, and where the line holds the vector of features that too; both are compared bit by bit with
what was served. A line that stands there again, as after a redelivery, is compared once. Ends with 0 when all are equal, 3
when one differs or cannot be read, 1 when nothing could be compared.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import xxhash

from jobs.compare import Difference, differences
from jobs.known import Known, known_in
from jobs.program import brokers, ended, home_folder, talkative
from winnow.decisions import RECOMMEND
from winnow.errors import FailedPrecondition, NotFound
from winnow.home import decisions_folder
from winnow.poison import Poison
from winnow.served import Served, of_json
from winnow.topics import DECISIONS

SKEWED = 3  # how the program ends
EVERY_S = 5.0  # between two lines of progress
FEATURE = "feature"  # the stage without which an answer has no state
NAMES = 20  # names of features in a report
SUFFIX = ".jsonl"

logger = logging.getLogger("winnow.skew")


@dataclass
class Report:
    """`without` are answers that had no state to serve; of the compared ones `ranked` had been seen by a model, and
    `vectors` say what that model was given. `repeated` are lines that the log holds again, word for word."""

    compared: int = 0
    equal: int = 0
    ranked: int = 0
    vectors: int = 0
    without: int = 0
    repeated: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)  # by reason
    names: Counter[str] = field(default_factory=Counter)  # differing answers by what differs
    first: list[Difference] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return self.equal == self.compared and not self.unreadable

    def add(self, served: Served, found: Sequence[Difference], keep: int) -> None:
        self.compared += 1
        self.ranked += served.ranked
        self.vectors += served.vector is not None
        self.equal += not found
        self.names.update({one.name.partition("[")[0] for one in found})
        self.first += found[: keep - len(self.first)]

    def lines(self) -> Iterator[str]:
        """What a person reads."""
        share = self.equal / self.compared if self.compared else 0.0
        yield f"{self.equal:,} of {self.compared:,} answers equal ({share:.4%}), {self.vectors:,} with their vector"
        if self.ranked > self.vectors:
            yield f"{self.ranked - self.vectors:,} ranked answers without their vector: only their state was compared"
        if self.without:
            yield f"{self.without:,} answers without a state, not compared"
        if self.repeated:
            yield f"{self.repeated:,} lines repeat a decision, which was compared once"
        for reason, n in self.unreadable.most_common():
            yield f"{n:,} lines cannot be read: {reason}"
        for name, n in self.names.most_common(NAMES):
            yield f"{n:,} answers differ in {name}"
        for one in self.first:
            yield f"{one.at.isoformat()} {one.request_id} {one.name}: served {one.served}, recomputed {one.recomputed}"


def skew(lines: Iterable[bytes], known: Known, *, keep: int = 20) -> Report:
    """Compare every decision; at most `keep` differences are kept in words.

    Two lines are one decision only where they are equal byte by byte, as delivered ones are: another line of the same
    request id may be the one that differs.
    """
    report, told = Report(), time.monotonic()
    known_lines: set[bytes] = set()
    for line in lines:
        try:
            served = of_json(line)
        except Poison as poison:
            report.unreadable[poison.reason] += 1
            continue
        own = xxhash.xxh3_128_digest(line)
        if own in known_lines:
            report.repeated += 1
            continue
        known_lines.add(own)
        if has_state(served):
            report.add(served, list(differences(served, known)), keep)
        else:
            report.without += 1
        if time.monotonic() - told > EVERY_S:
            told = time.monotonic()
            logger.info("%d answers compared, %d equal", report.compared, report.equal)
    return report


def has_state(served: Served) -> bool:
    """False: the feature service was away, or nobody was asked for."""
    return FEATURE not in served.skipped and (served.kind == RECOMMEND or served.user.watermark > 0)


class Lines(Protocol):
    """A part of the decision log."""

    def lines(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class DecisionFile:
    """A file as long as it was when it was found: what is written later may be of positions that were not read."""

    path: Path
    size_bytes: int

    def lines(self) -> Iterator[bytes]:
        """A line that was cut short at the end is none."""
        left = self.size_bytes
        try:
            with self.path.open("rb") as file:
                while left > 0 and (line := file.readline()).endswith(b"\n"):
                    left -= len(line)
                    yield line[:-1]
        except OSError as gone:
            raise FailedPrecondition(f"{self.path}: {gone.strerror}; a log that rolls drops its oldest files") from gone


def decision_files(places: Sequence[Path]) -> list[DecisionFile]:
    """Files as given, and those below folders; NotFound where there is none."""
    found: list[DecisionFile] = []
    for place in places:
        files = sorted(place.rglob(f"*{SUFFIX}")) if place.is_dir() else [place]
        if not files or not all(file.is_file() for file in files):
            raise NotFound(f"{place}: no decision log (*{SUFFIX})")
        found += [DecisionFile(file, file.stat().st_size) for file in files]
    return found


@dataclass(frozen=True, slots=True)
class DecisionTopic:
    """The topic as far as it went when it was looked at. A decision may be in it twice."""

    bootstrap: str
    ends: Mapping[int, int]  # offsets by partition

    def lines(self) -> Iterator[bytes]:
        from winnow.kafka import messages  # who reads files needs no client of a broker

        return (message.value for message in messages(self.bootstrap, DECISIONS, self.ends))


def decision_topic(bootstrap: str) -> DecisionTopic:
    """NotFound where nobody has made it yet."""
    from winnow.kafka import end_offsets

    ends = end_offsets(bootstrap, DECISIONS)
    if not ends:
        raise NotFound(f"{bootstrap}: no topic {DECISIONS.name}")
    return DecisionTopic(bootstrap, ends)


def run(home: Path, logs: Sequence[Lines], keep: int) -> Report:
    """`logs` were looked for before this: the home's logs then hold what they name. FailedPrecondition when no answer
    could be compared: a check that looks at nothing must not pass."""
    known = known_in(home)
    logger.info("%d events, %d versions of items", known.events, known.items)
    report = skew((line for log in logs for line in log.lines()), known, keep=keep)
    if not report.compared and not report.unreadable:
        raise FailedPrecondition(f"no answer to compare; {report.without} had no state")
    return report


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m jobs.skew",
        description="Compare what was served with what the log says, bit by bit.",
        epilog="ends with 0: all equal, 1: could not compare, 2: wrong command, 3: not equal",
    )
    parser.add_argument("--home", required=True, type=home_folder, help="whose logs count")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--bootstrap", type=brokers, help="Kafka brokers, host:port,…: read the topic instead of files")
    where.add_argument(
        "--decisions",
        type=Path,
        nargs="+",
        help="files of JSON lines, or folders of them; default: the home's decisions/",
    )
    parser.add_argument("--first", type=int, default=20, metavar="N", help="differences to show (20)")
    return parser.parse_args(words)


def decisions(said: argparse.Namespace) -> Sequence[Lines]:
    """Where the options say that decisions are."""
    if said.bootstrap:
        return [decision_topic(said.bootstrap)]
    return decision_files(said.decisions or [decisions_folder(said.home)])


def main(words: Sequence[str] | None = None) -> int:
    said = arguments(words)
    talkative()
    report = run(said.home, decisions(said), said.first)
    for line in report.lines():
        print(line)  # noqa: T201 -- the report is what the program is for
    return 0 if report.fine else SKEWED


if __name__ == "__main__":
    ended(main)
