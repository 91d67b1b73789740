"""Open-loop load: requests leave when the schedule says so, however slow the answers are.

Latency counts from the moment a request was meant to leave, so a server that stalls for a second is charged for every
request that should have been served in that second ("coordinated omission", Tene 2013; wrk2). The generator is a
process of its own, `python -m bench.load`: a `Load` as JSON on standard input, two lines on standard output, `begin`
when the measured window starts and the `Outcome` as JSON when it is over.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

from bench.faces import Face, Reply, RestFace

Milliseconds = npt.NDArray[np.float64]

Arrivals = Literal["poisson", "constant"]
FaceName = Literal["rest", "grpc", "corerec"]
FACES: tuple[FaceName, ...] = ("rest", "grpc")  # of Winnow itself


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `people` are asked for in a seeded random order; `warm_s` seconds at the same rate come first."""

    face: FaceName
    host: str
    port: int
    rate: float  # requests per second
    seconds: float
    people: tuple[str, ...]
    items: int = 10
    arrivals: Arrivals = "poisson"
    warm_s: float = 1.0
    timeout_s: float = 5.0
    connections: int = 128
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back, in the order of the schedule; `faults` counts the answers that do not count, by reason."""

    latency_ms: Milliseconds  # (n,) intended start to complete answer; of a lost answer, until it was given up
    lag_ms: Milliseconds  # (n,) intended start to actual start: the generator's own lateness
    faults: Counter[str]
    took_ms: dict[str, Milliseconds] = field(default_factory=dict)  # stage -> (answers that report it,)
    cpu_ms: float = 0.0  # of the generator, over the window

    def __len__(self) -> int:
        return len(self.latency_ms)

    def percentile(self, q: float) -> float:
        """Latency in milliseconds that `q` % of the requests did not exceed: one that was observed, no blend of two."""
        return float(np.percentile(self.latency_ms, q, method="higher"))


def schedule(rate: float, seconds: float, arrivals: Arrivals, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Intended starts in seconds from the beginning, ascending; always round(rate · seconds) of them.

    Poisson arrivals given their number are uniform, so sorted uniform draws are a Poisson process at exactly this rate.
    """
    n = max(1, round(rate * seconds))
    if arrivals == "constant":
        return np.arange(n) / rate
    return np.sort(rng.uniform(0.0, seconds, n))


async def drive(face: Face, starts: npt.NDArray[np.float64], people: Sequence[str], timeout_s: float) -> Outcome:
    """Ask for people[k] at starts[k] seconds from now, and wait for the last answer or its time-out."""
    lag_s, latency_s = np.zeros(len(starts)), np.zeros(len(starts))
    replies: list[Reply | None] = [None] * len(starts)
    clock = time.monotonic
    began = clock() + 0.01

    async def ask(n: int) -> None:
        lag_s[n] = clock() - began - starts[n]
        replies[n] = await patient(face, people[n], timeout_s)
        latency_s[n] = clock() - began - starts[n]

    cpu = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for n, start in enumerate(starts):
            if (wait := began + start - clock()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(ask(n))
    cpu_ms = (time.process_time() - cpu) * 1000
    done = [reply for reply in replies if reply is not None]
    faults = Counter(reply.fault for reply in done if reply.fault)
    return Outcome(latency_s * 1000, lag_s * 1000, faults, stages(done), cpu_ms)


async def patient(face: Face, user_id: str, timeout_s: float) -> Reply:
    """The face's reply; a time-out or a broken connection is a fault, not the end of the run."""
    try:
        async with asyncio.timeout(timeout_s):
            return await face.ask(user_id)
    except TimeoutError:
        return Reply(f"no answer within {timeout_s:g} s")
    except OSError as broken:
        return Reply(f"connection: {type(broken).__name__}")


def stages(replies: Sequence[Reply]) -> dict[str, Milliseconds]:
    """Milliseconds per stage as the answers themselves report them."""
    names = dict.fromkeys(name for reply in replies for name in reply.took_ms)
    return {name: np.array([r.took_ms[name] for r in replies if name in r.took_ms]) for name in names}


def connect(load: Load) -> Face:
    if load.face == "rest":
        return RestFace(load.host, load.port, load.items, load.connections)
    if load.face == "corerec":
        from bench.peers.faces import CoreRecFace

        return CoreRecFace(load.host, load.port, load.items, load.connections)
    from bench.grpc_face import GrpcFace  # here: a generator of REST does not import gRPC

    return GrpcFace(load.host, load.port, load.items)


async def generate(load: Load, begin: Callable[[], None]) -> Outcome:
    """Warm up, call `begin`, then the measured window."""
    rng = np.random.default_rng(load.seed)
    face = connect(load)
    try:
        if load.warm_s:
            await window(load, face, load.warm_s, rng)
        begin()
        return await window(load, face, load.seconds, rng)
    finally:
        await face.close()


async def window(load: Load, face: Face, seconds: float, rng: np.random.Generator) -> Outcome:
    starts = schedule(load.rate, seconds, load.arrivals, rng)
    people = [load.people[n] for n in rng.integers(len(load.people), size=len(starts))]
    return await drive(face, starts, people, load.timeout_s)


def to_json(outcome: Outcome) -> bytes:
    columns = {column.name: getattr(outcome, column.name) for column in fields(outcome)}
    return orjson.dumps({**columns, "faults": dict(outcome.faults)}, option=orjson.OPT_SERIALIZE_NUMPY)


def from_json(text: bytes) -> Outcome:
    document: dict[str, Any] = orjson.loads(text)
    return Outcome(
        np.array(document["latency_ms"], np.float64),
        np.array(document["lag_ms"], np.float64),
        Counter(document["faults"]),
        {name: np.array(values, np.float64) for name, values in document["took_ms"].items()},
        document["cpu_ms"],
    )


def precise_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are good to some ten microseconds: epoll, and uvloop with it, round to whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    load = Load(**orjson.loads(sys.stdin.buffer.read()))
    gc.disable()  # a pause of the generator would be charged to the server; a window fits in memory
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        outcome = runner.run(generate(load, lambda: print("begin", flush=True)))
    sys.stdout.buffer.write(to_json(outcome) + b"\n")


if __name__ == "__main__":
    main()
