"""One measured window: the generator in its own process, and what the servers' processes used meanwhile."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import orjson
import psutil

from bench.load import Load, Outcome, from_json

GRACE_S = 60.0  # on top of the window: start of the generator, connections, last answers


@dataclass(frozen=True, slots=True)
class Measured:
    """An outcome and its price."""

    outcome: Outcome
    server_cpu_ms: float  # all server processes together, user and system, over the window
    other_cpu: float  # share of the machine (0..1) used by neither servers nor generator: the noise
    shares: tuple[float, ...] = ()  # of `server_cpu_ms`, by server

    @property
    def cpu_ms_per_request(self) -> float:
        return self.server_cpu_ms / len(self.outcome)

    @property
    def shares_ms_per_request(self) -> tuple[float, ...]:
        return tuple(ms / len(self.outcome) for ms in self.shares)


@dataclass(frozen=True, slots=True)
class Clocks:
    """CPU milliseconds used so far: by each server, by the whole machine, and what the machine could have used."""

    servers: tuple[float, ...]
    busy: float
    room: float

    @classmethod
    def read(cls, servers: Sequence[psutil.Process]) -> Clocks:
        times = psutil.cpu_times()
        room = sum(times) - times.guest - times.guest_nice  # the kernel counts guests in user as well
        idle = times.idle + times.iowait
        used = tuple(sum(process.cpu_times()[:2]) * 1000 for process in servers)
        return cls(used, (room - idle) * 1000, room * 1000)


def measure(load: Load, servers: Sequence[psutil.Process]) -> Measured:
    """Run `load` against what `servers` serve. Raises RuntimeError when the generator itself fails."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as generator:
        limit = threading.Timer(load.warm_s + load.seconds + load.timeout_s + GRACE_S, generator.kill)
        limit.start()
        try:
            assert generator.stdin is not None
            assert generator.stdout is not None
            generator.stdin.write(orjson.dumps(asdict(load)))
            generator.stdin.close()
            begun = generator.stdout.readline()
            before = Clocks.read(servers)
            result = generator.stdout.readline()
            after = Clocks.read(servers)
        finally:
            limit.cancel()
    if begun != b"begin\n" or generator.returncode or not result:
        raise RuntimeError(f"the load generator ended with {generator.returncode}")
    outcome = from_json(result)
    shares = tuple(late - early for early, late in zip(before.servers, after.servers, strict=True))
    used = sum(shares)
    other = max(0.0, after.busy - before.busy - used - outcome.cpu_ms) / max(after.room - before.room, 1.0)
    return Measured(outcome, used, other, shares)


def highest_rate(holds: Callable[[float], bool], first: float, probes: int, step: float = 1.5) -> float:
    """The highest rate that held, from at most `probes` tries: up or down by `step` until bracketed, then halving the
    bracket (geometrically). 0 when none held.
    """
    low, high, rate = 0.0, math.inf, first
    for _ in range(probes):
        if holds(rate):
            low = rate
        else:
            high = rate
        if high is math.inf:
            rate = low * step
        elif not low:
            rate = high / step
        else:
            rate = math.sqrt(low * high)
    return low
