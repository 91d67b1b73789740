"""One record of the audit log: a line of JSON that says its own hash, and that of the record before it.

    {"hash":"…64 hex…","previous":"…64 hex…","chain":"gateway-1f…","seq":17,"at":"…","kind":"answer",…}

The hash is SHA-256 over every byte that follows it in the line, so the line itself is the canonical form and nothing is
encoded a second time to check it: one byte that differs, in the hash or behind it, is a record that was altered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

GENESIS = "0" * 64
"""What the first record of a chain has before it."""
MAX_BYTES = 256 * 1024  # of one record; no answer and no act comes near

OPEN, CLOSE = b'{"hash":"', b'",'
BODY = len(OPEN) + 64 + len(CLOSE)

START, CHECKPOINT, STOP, GAP = "start", "checkpoint", "stop", "gap"
ANSWER = "answer"
BEGUN, DONE, FAILED = "begun", "done", "failed"
"""How far an act is: said before it begins, and again when it has ended."""


class NoRecord(ValueError):
    """These bytes are no record as it was written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded. `about` holds JSON values; names of the chain's own fields are not among its keys."""

    kind: str
    about: Mapping[str, Any]
    at: datetime | None = None  # now, where none is given


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record as it stands in a file: the line without its end, and what the next record must know."""

    line: bytes
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Read:
    """A record that was read: its bytes and its hash belong together."""

    hash: str
    previous: str
    chain: str
    seq: int
    kind: str
    body: Mapping[str, Any]


def sealed(chain: str, seq: int, previous: str, entry: Entry) -> Sealed:
    """The record of an entry, at its place in a chain."""
    place = {"previous": previous, "chain": chain, "seq": seq, "at": entry.at or datetime.now(UTC), "kind": entry.kind}
    rest = orjson.dumps({**place, **entry.about, **place})[1:]  # in this order, and nobody's words win over the place
    found = sha256(rest).hexdigest()
    return Sealed(OPEN + found.encode() + CLOSE + rest, seq, found)


def read(line: bytes) -> Read:
    """The record of a line without its end; NoRecord where its bytes are not those that its hash was made of."""
    if line[: len(OPEN)] != OPEN or line[BODY - len(CLOSE) : BODY] != CLOSE:
        raise NoRecord("is not a record")
    said, rest = line[len(OPEN) : BODY - len(CLOSE)], line[BODY:]
    found = sha256(rest).hexdigest()
    if said != found.encode():
        raise NoRecord("its bytes do not give its hash")
    try:
        body = orjson.loads(b"{" + rest)
        one = Read(found, body["previous"], body["chain"], body["seq"], body["kind"], body)
    except (ValueError, KeyError, TypeError) as wrong:
        raise NoRecord("is not a record") from wrong
    if not (type(one.seq) is int and all(type(word) is str for word in (one.previous, one.chain, one.kind))):
        raise NoRecord("is not a record")
    return one


def claimed_seq(line: bytes) -> int | None:
    """The number that a line, which may be damaged, gives itself."""
    _, found, rest = line.partition(b'"seq":')
    digits = rest[:20].split(b",")[0]
    return int(digits) if found and digits.isdigit() else None
