"""Peers that do what peers do: answer, fail, hang, answer wrongly. Driven as `bench.peers.driver` drives the real ones."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.peers.driver import WANTED, Data, Ints


class Right:
    """The lowest rows that the person has not seen."""

    def fit(self, data: Data) -> None:
        self.data = data

    def one(self, user: int) -> Ints:
        return np.setdiff1d(np.arange(self.data.n_items), self.data.of(user))[:WANTED]

    def many(self, users: Ints) -> object:
        return [self.one(int(user)) for user in users]


class Fails(Right):
    def fit(self, data: Data) -> None:
        raise RuntimeError("no such\n  solver")


class Hangs(Right):
    """With a child, whose number lies beside the data."""

    def fit(self, data: Data) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(sys.argv[4], "child").write_text(str(child.pid))
        time.sleep(600)


class Twice(Right):
    def one(self, user: int) -> Ints:
        return np.repeat(super().one(user)[:1], WANTED)


class Seen(Right):
    def one(self, user: int) -> Ints:
        return np.concatenate([self.data.of(user)[:1], super().one(user)[: WANTED - 1]])


class Short(Right):
    def one(self, user: int) -> Ints:
        return super().one(user)[:3]


class Dies(Right):
    """As a library does whose native code crashes: no word."""

    def fit(self, data: Data) -> None:
        import os

        os.abort()


MODELS = {
    "right": Right,
    "fails": Fails,
    "hangs": Hangs,
    "twice": Twice,
    "seen": Seen,
    "short": Short,
    "dies": Dies,
}
