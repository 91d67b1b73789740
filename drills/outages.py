"""Every part and every inner service is stopped, frozen and slowed for a while under load; people must not notice more
than a plainer answer.

What must hold: no status of 500 or above, the 99th percentile within the stages' budgets and a fifth, what is left out
is named, and answers are complete again without anybody restarting anything but what was stopped.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from bench.faces import SKIPPED
from bench.load import Load
from bench.measure import measure
from drills.platform import Platform, Say
from parts.program import HOST, Running
from parts.services import INNER
from parts.stack import PARTS
from services.gateway.settings import Settings

Fault = Literal["stopped", "frozen", "slow"]
FAULTS: tuple[Fault, ...] = ("stopped", "frozen", "slow")
RATE = 50.0  # requests a second
SLOW_S = 0.2
STUTTER_S = 0.05  # how long what stutters runs in between
SLACK = 1.2


@dataclass(frozen=True, slots=True)
class Row:
    """One part, one fault: what people got meanwhile."""

    part: str
    fault: str
    requests: int
    failed: dict[str, int]
    skipped: dict[str, float]
    p50_ms: float
    p99_ms: float
    limit_ms: float
    recovery_s: float

    @property
    def held(self) -> bool:
        return not self.failed and self.p99_ms <= self.limit_ms


def outages(platform: Platform, say: Say, seconds: float, only: tuple[str, ...] = (), rate: float = RATE) -> list[Row]:
    """All rows, those of the whole platform first."""
    rows = [row(platform, "nothing", "none", seconds, rate)]
    say(said(rows[0]))
    for part in (*PARTS, *INNER):
        for fault in FAULTS:
            if part in platform.programs and (not only or part in only):
                with FAULT[fault](platform, part):
                    during = row(platform, part, fault, seconds, rate)
                rows.append(recovered(during, platform.well_again_s()))
                say(said(rows[-1]))
    return rows


def row(platform: Platform, part: str, fault: str, seconds: float, rate: float) -> Row:
    load = Load("rest", HOST, platform.stack.ports["rest"], rate, seconds, platform.world.people)
    outcome = measure(load, []).outcome
    n = len(outcome)
    skipped: Counter[str] = Counter()
    for why, times in outcome.faults.items():
        if why.startswith(SKIPPED):
            skipped.update(dict.fromkeys(why.removeprefix(SKIPPED).strip().split(", "), times))
    return Row(
        part,
        fault,
        n,
        {why: times for why, times in outcome.faults.items() if not why.startswith(SKIPPED)},
        {stage: times / n for stage, times in skipped.items()},
        outcome.percentile(50),
        outcome.percentile(99),
        limit_ms(),
        0.0,
    )


def limit_ms() -> float:
    """What a request may take when every stage uses up its budget, and a fifth more."""
    settings = Settings()
    return SLACK * 1000 * sum(settings.budget_s(stage) for stage in INNER)


def recovered(during: Row, seconds: float) -> Row:
    return Row(**{name: getattr(during, name) for name in during.__slots__} | {"recovery_s": seconds})


@contextmanager
def stopped(platform: Platform, part: str) -> Iterator[None]:
    """SIGKILL, and started again at the end."""
    platform.kill(part)
    yield
    platform.restart(part)


@contextmanager
def frozen(platform: Platform, part: str) -> Iterator[None]:
    """SIGSTOP: connections stay open and nothing answers."""
    one = platform.running(part)
    one.freeze()
    try:
        yield
    finally:
        one.thaw()


@contextmanager
def slow(platform: Platform, part: str) -> Iterator[None]:
    """0.2 s more for everything sent to it; what nothing stands before is frozen for 0.2 s again and again."""
    proxy = platform.proxies.get(part)
    if proxy is None:
        with stuttering(platform.running(part)):
            yield
        return
    proxy.delay_s = SLOW_S
    try:
        yield
    finally:
        proxy.delay_s = 0.0


@contextmanager
def stuttering(one: Running) -> Iterator[None]:
    over = threading.Event()

    def stutter() -> None:
        while not over.wait(STUTTER_S):
            one.freeze()
            time.sleep(SLOW_S)
            one.thaw()

    thread = threading.Thread(target=stutter, name="stutter")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


FAULT = {"stopped": stopped, "frozen": frozen, "slow": slow}


def failures(one: Row) -> str:
    return ", ".join(f"{times} ({why})" for why, times in one.failed.items()) or "0"


def said(one: Row) -> str:
    left_out = ", ".join(f"{stage} {share:.0%}" for stage, share in one.skipped.items()) or "nothing"
    return (
        f"{one.part} {one.fault}: {one.requests} requests, {failures(one)} failed, without {left_out}, "
        f"p50 {one.p50_ms:.0f} ms, p99 {one.p99_ms:.0f} ms, well again after {one.recovery_s:.1f} s"
    )
