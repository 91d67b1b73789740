"""Lines come out in the order in which they went in, within a limit, through restarts, cut ends and full disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.spool import Spool
from winnow.errors import DiskFull, ResourceExhausted, Unavailable

LIMIT, FILE = 2_000, 300  # bytes


def spool(folder: Path, *, rolling: bool = False, free_bytes: int = 0, max_bytes: int = LIMIT) -> Spool:
    return Spool(folder, max_bytes=max_bytes, free_bytes=free_bytes, rolling=rolling, file_bytes=FILE)


def everything(one: Spool, at_most: int = 3) -> list[bytes]:
    found: list[bytes] = []
    while lines := one.oldest(at_most):
        found += lines
        one.drop()
    return found


class AnySpool(RuleBasedStateMachine):
    """A list beside the real one. Restarts may give what was taken again: the file that it came from is whole still."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.spool = spool(self.folder)
        self.waiting: list[bytes] = []
        self.given: list[bytes] = []
        self.number = 0

    @rule(sizes=st.lists(st.integers(0, 200), min_size=1, max_size=4))
    def append(self, sizes: list[int]) -> None:
        lines = [b"%06d" % (self.number + n) + b"x" * size for n, size in enumerate(sizes)]
        held = self.spool.size_bytes
        try:
            self.spool.append(lines)
        except ResourceExhausted:
            assert held + sum(len(line) + 1 for line in lines) > LIMIT
            return
        self.number += len(lines)
        self.waiting += lines

    @rule(at_most=st.integers(1, 5), delivered=st.booleans())
    def take(self, at_most: int, delivered: bool) -> None:
        lines = self.spool.oldest(at_most)
        assert bool(lines) == bool(self.waiting)
        assert lines == self.waiting[: len(lines)]
        if delivered and lines:
            self.spool.drop()
            self.given += lines
            del self.waiting[: len(lines)]

    @precondition(lambda self: self.spool.size_bytes > 0)
    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = spool(self.folder)
        again = everything(self.spool)
        first = len(self.given + self.waiting) - len(again)
        assert again == (self.given + self.waiting)[first:], "in order, and nothing left out"
        assert len(again) >= len(self.waiting)
        self.given, self.waiting = self.given + self.waiting, []

    @invariant()
    def keeps_to_its_limit(self) -> None:
        on_disk = sum(path.stat().st_size for path in self.folder.rglob("*.jsonl"))
        assert on_disk == self.spool.size_bytes <= LIMIT

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)


TestAnySpool = AnySpool.TestCase


def test_a_rolling_spool_keeps_the_newest(tmp_path: Path) -> None:
    one = spool(tmp_path, rolling=True)
    lines = [b"%04d" % n + b"x" * 50 for n in range(200)]
    for line in lines:
        one.append([line])
    kept = everything(one)
    assert kept == lines[-len(kept) :]
    assert LIMIT - FILE - 60 < sum(len(line) + 1 for line in kept) <= LIMIT


def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    one = spool(tmp_path)
    one.append([b"first", b"second"])
    one.close()
    [file] = tmp_path.rglob("*.jsonl")
    os.truncate(file, file.stat().st_size - 3)
    again = spool(tmp_path)
    again.append([b"third"])
    assert everything(again) == [b"first", b"third"]


def test_two_processes_keep_apart_and_the_next_takes_what_one_left(tmp_path: Path) -> None:
    one, other = spool(tmp_path), spool(tmp_path)
    one.append([b"one"])
    other.append([b"other"])
    one.close()
    assert everything(spool(tmp_path)) == [b"one"]
    assert everything(other) == [b"other"]


Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_is_nearly_full_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = spool(tmp_path, free_bytes=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10_000, 8_990, 1_010))
    one.append([b"x" * 9])
    with pytest.raises(DiskFull):
        one.append([b"x" * 10])
    assert everything(one) == [b"x" * 9]


def test_a_folder_that_cannot_be_made_is_a_platform_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable):
        spool(tmp_path / "file")


LIMITED = """
import resource, sys
from pathlib import Path
from services.gateway.spool import Spool
from winnow.errors import DiskFull

one = Spool(Path(sys.argv[1]), max_bytes=10**6, free_bytes=0, rolling=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
taken, refused = [], 0
for n in range(40):
    line = b"%04d" % n + b"x" * 300
    try:
        one.append([line])
        taken.append(line)
    except DiskFull:
        refused += 1
    if n == 20:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
found = []
while lines := one.oldest(7):
    found += lines
    one.drop()
assert found == taken, (len(found), len(taken))
print(len(taken), refused)
"""


def test_a_write_that_the_disk_cuts_short_leaves_nothing_and_the_next_goes_well(tmp_path: Path) -> None:
    command: list[Any] = [sys.executable, "-c", LIMITED, tmp_path]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    taken, refused = map(int, ran.stdout.split())
    assert taken + refused == 40
    assert taken >= 19 + 3
    assert refused > 5
