"""`python -m bench.flame`: where a request's time goes, as a flame graph (docs/flame-*.svg).

Starts the platform as `make bench` does, asks one request after the other and has py-spy sample every process meanwhile;
what was seen together is one picture, a tower per thread, wide where much time goes. The words in a box are a function and
its file; the boxes above it are what it calls. py-spy is not among the platform's packages: `pip install py-spy` wherever
it is found on PATH. It samples threads that run or would like to, so on a busy machine waiting for a core counts too, and
a thread that has just gone to sleep may be seen once more: shares below a per cent say nothing.

The picture needs no script and no other file; a box says its share when the pointer is over it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from bench.faces import RestFace
from bench.processes import WIRINGS, Platform, Wiring, running
from bench.worlds import WORLDS, World, prepare
from parts.program import HOST

CACHE = Path("build/bench")
SAMPLES_A_SECOND = 250
WARM = 100  # requests before anything is sampled
STOP_S = 30.0  # py-spy's own time at the end
WIDTH, ROW, LETTER = 1200, 16, 6.6  # pixels: the picture, a box's height, a letter
LEAST = 0.002  # share below which a box is left out
FRAME = re.compile(r"^(?P<function>.+) \((?P<file>[^:)]+)(:\d+)?\)$")
OUTER = (
    "<module>",
    "_run_module_as_main",
    "_run_code",
    "Thread._bootstrap",
    "Thread._bootstrap_inner",
    "Thread.run",
    "_worker",
    "_WorkItem.run",
    "start",
    "run",
    "Runner.run",
)
"""Frames that every stack of a thread begins with: they say nothing of a request."""

WAITING = ("Condition.wait threading.py", "Event.wait threading.py", "wait selectors.py")
"""Where a thread sleeps: seen now and then as if it ran."""

Stack = tuple[str, ...]


@dataclass(slots=True)
class Box:
    """A function in one place of the picture: how often it was seen, and what it called."""

    samples: int = 0
    calls: dict[str, Box] = field(default_factory=dict)

    def add(self, stack: Sequence[str], samples: int) -> None:
        box = self
        box.samples += samples
        for frame in stack:
            box = box.calls.setdefault(frame, Box())
            box.samples += samples

    def depth(self, least: float) -> int:
        return 1 + max((box.depth(least) for box in self.calls.values() if box.samples >= least), default=0)


def stacks_of(lines: Iterable[str], process: str = "") -> Iterator[tuple[Stack, int]]:
    """py-spy's raw format, `frame;frame;… samples`, without line numbers and without what every stack begins with.
    What was seen outside any function of interest (a thread that sleeps) is left out."""
    for line in lines:
        path, _, samples = line.rstrip().rpartition(" ")
        frames = [frame_of(frame) for frame in path.split(";")]
        while frames and frames[0].partition(" ")[0] in OUTER:
            frames.pop(0)
        if frames and frames[-1] not in WAITING and samples.isdecimal():
            yield (*([process] if process else ()), *frames), int(samples)


def frame_of(frame: str) -> str:
    """`function (file:line)` → `function file`."""
    found = FRAME.match(frame.strip())
    return f"{found['function']} {found['file']}" if found else frame.strip()


def picture(stacks: Iterable[tuple[Stack, int]], title: str) -> str:
    """The flame graph as SVG."""
    root = Box()
    for stack, samples in stacks:
        root.add(stack, samples)
    if not root.samples:
        raise ValueError("nothing was sampled")
    height = ROW * (root.depth(LEAST * root.samples) + 2)
    boxes = "\n".join(drawn(root, root.samples, 0.0, height - ROW, title))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n{boxes}\n</svg>\n'
    )


def drawn(box: Box, total: int, left: float, top: float, name: str) -> Iterator[str]:
    """This box and, above it, what it calls, widest first."""
    width = WIDTH * box.samples / total
    share = 100 * box.samples / total
    letters = int(width / LETTER)
    text = name if len(name) <= letters else name[: max(letters - 1, 0)] + "…" if letters > 2 else ""
    yield (
        f'<g><title>{escape(name)}: {share:.1f} %</title><rect x="{left:.1f}" y="{top:.0f}" width="{width:.1f}" '
        f'height="{ROW - 1}" fill={quoteattr(colour(name))}/><text x="{left + 2:.1f}" y="{top + 11:.0f}">{escape(text)}</text></g>'
    )
    for called, one in sorted(box.calls.items(), key=lambda pair: -pair[1].samples):
        if one.samples >= LEAST * total:
            yield from drawn(one, total, left, top - ROW, called)
        left += WIDTH * one.samples / total


def colour(name: str) -> str:
    """Ours, the models and the index, and everything else."""
    file = name.rpartition(" ")[2]
    if file.startswith(("services/", "winnow/")):
        return "#9fd0a0"
    return "#f2b27a" if file.startswith(("onnxruntime", "faiss")) else "#d5d9de"


def sampled(platform: Platform, world: World, seconds: float) -> list[tuple[Stack, int]]:
    """What every process did while one request after the other was answered."""
    spy = shutil.which("py-spy")
    if spy is None:
        raise SystemExit("py-spy is not on PATH: pip install py-spy")
    asyncio.run(asked(platform.rest, world.people, WARM))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        spies = {}
        for name, process in platform.processes.items():
            rate = ("-r", str(SAMPLES_A_SECOND), "-d", str(round(seconds)), "-f", "raw", "--nonblocking")
            command = (spy, "record", "-p", str(process.pid), *rate, "-o", f"{folder}/{name}")
            spies[name] = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            asyncio.run(asked(platform.rest, world.people, WARM))
        for one in spies.values():
            one.wait(STOP_S)
        several = len(spies) > 1
        return [
            found
            for name in spies
            for found in stacks_of(Path(folder, name).read_text().splitlines(), name if several else "")
        ]


async def asked(port: int, people: Sequence[str], requests: int, at_once: int = 1) -> None:
    """So many requests, `at_once` of them under way. RuntimeError for a wrong answer."""
    face = RestFace(HOST, port, 10, at_once)
    to_ask = islice(cycle(people), requests)

    async def one_after_the_other() -> None:
        for person in to_ask:
            reply = await face.ask(person)
            if reply.fault:
                raise RuntimeError(f"an answer is wrong: {reply.fault}")

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    await face.close()


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="bench.flame", description=__doc__.splitlines()[0])
    options.add_argument("--world", choices=WORLDS, default="100k")
    options.add_argument("--wiring", choices=WIRINGS, default="one_process")
    options.add_argument("--seconds", type=float, default=30.0)
    options.add_argument("--out", type=Path, default=None, help="docs/flame-WIRING.svg where it is not said")
    arguments = options.parse_args(argv)
    wiring: Wiring = arguments.wiring
    world = prepare(arguments.world, CACHE, print)
    with running(world.home, wiring, world.home / "logs" / wiring) as platform:
        stacks = sampled(platform, world, arguments.seconds)
    out = arguments.out or Path("docs") / f"flame-{wiring.replace('_', '-')}.svg"
    out.write_text(picture(stacks, f"{wiring}, {arguments.world}"), encoding="utf-8")
    print(f"written: {out}, {sum(samples for _, samples in stacks):,} samples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
