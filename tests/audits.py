"""Audit logs for tests: chains of small records, and what a check finds in their lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from winnow.audit.chain import Chain
from winnow.audit.check import Check, Report, Stand
from winnow.audit.record import GENESIS, Entry, sealed
from winnow.audit.verify import Verdict, verify_folder

ROOM = 0  # bytes that tests leave free


def answer(n: int) -> Entry:
    return Entry("answer", {"request_id": f"r{n}", "who": "anonymous", "person": f"{n:032x}", "decision": "d" * 64})


def lines_of(records: int, chain: str = "gateway-1") -> list[bytes]:
    """The lines of a chain, without their ends."""
    made, newest = [], GENESIS
    for seq in range(records):
        one = sealed(chain, seq, newest, answer(seq))
        made.append(one.line)
        newest = one.hash
    return made


def head_of(lines: Sequence[bytes]) -> dict[int, Stand]:
    """What the head file says of them."""
    return {len(lines) - 1: Stand(lines[-1][9:73].decode(), "the head")}


def checked(lines: Sequence[bytes], **options: Any) -> Report:
    check = Check("gateway-1", **options)
    for number, line in enumerate(lines, 1):
        check.feed(line, "file", number)
    return check.finish()


def chain_in(folder: Path, records: int, writer: str = "gateway", *, batch: int = 100, **options: Any) -> Path:
    """A chain of so many records with its start and its stop, closed; its folder."""
    chain = Chain(folder, writer, free_bytes=ROOM, **options)
    for first in range(0, records - 2, batch):
        chain.append([answer(n) for n in range(first, min(first + batch, records - 2))])
    chain.close()
    return chain.folder


def kinds(verdict: Verdict | Report) -> list[str]:
    faults = verdict.every_fault if isinstance(verdict, Verdict) else verdict.faults
    return [fault.kind.value for fault in faults]


def verified(folder: Path, **options: Any) -> Verdict:
    return verify_folder(folder, **options)
