"""`python -m bench.versus OTHER`: CPU per request of this tree against another one, on whatever machine there is.

Milliseconds of a shared machine differ by half from one hour to the next; two platforms that are asked in turn, a hundred
requests each, meet the same hour. OTHER is a checkout of the platform (`git worktree add`), run by the same interpreter,
over a copy of the home, because a home has one platform at a time. Where one request is under way at a time, what counts
is the CPU of all server processes; with several (`--at-once`), how many a second were answered says what all cores give.
The last lines are medians of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.flame import asked
from bench.processes import WIRINGS, Platform, Wiring, running
from bench.worlds import WORLDS, World, prepare

CACHE = Path("build/bench")
SETTLE_S = 0.2  # for what goes on beside requests: decisions are written then
WARM = 200  # requests

Milliseconds = Mapping[str, float]
"""By process."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one side in one round: CPU milliseconds per request of each process, and requests answered a second."""

    used: Milliseconds
    rate: float

    @property
    def cpu_ms(self) -> float:
        return sum(self.used.values())


@dataclass(frozen=True, slots=True)
class Side:
    """One tree's running platform."""

    name: str
    platform: Platform
    people: Sequence[str]

    def cost(self, requests: int, at_once: int) -> Cost:
        before, started = self._used(), time.monotonic()
        asyncio.run(asked(self.platform.rest, self.people, requests, at_once))
        took_s = time.monotonic() - started
        time.sleep(SETTLE_S)
        used = {name: (used - before[name]) / requests for name, used in self._used().items()}
        return Cost(used, requests / took_s)

    def _used(self) -> Milliseconds:
        return {name: 1_000 * sum(one.cpu_times()[:2]) for name, one in self.platform.processes.items()}


@contextmanager
def side(name: str, tree: Path, world: World, wiring: Wiring) -> Iterator[Side]:
    """The platform as `tree` has it, warm. What `python -m` starts imports from the folder that it is started in."""
    home = twin(world.home) if name == "other" else world.home
    with chdir(tree), running(home, wiring, home / "logs" / f"versus-{name}") as platform:
        asyncio.run(asked(platform.rest, world.people, WARM))
        yield Side(name, platform, world.people)


def twin(home: Path) -> Path:
    """A copy of a home beside it, without what its platform wrote while it served; made once."""
    copy = home.with_name(f"{home.name}-twin")
    if not copy.exists():
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns("logs", "decisions", "audit", "state"))
    return copy


def measured(sides: Sequence[Side], rounds: int, requests: int, at_once: int) -> list[list[Cost]]:
    """What each side cost in each round; who begins changes with every round."""
    costs: list[list[Cost]] = []
    for turn in range(rounds):
        in_turn = sides if turn % 2 else sides[::-1]
        cost = {one.name: one.cost(requests, at_once) for one in in_turn}
        costs.append([cost[one.name] for one in sides])
    return costs


def told(sides: Sequence[Side], costs: Sequence[Sequence[Cost]]) -> Iterator[str]:
    for place, one in enumerate(sides):
        mine = [turn[place] for turn in costs]
        parts = {name: statistics.median(cost.used[name] for cost in mine) for name in one.platform.processes}
        whole, rate = (statistics.median(getattr(cost, name) for cost in mine) for name in ("cpu_ms", "rate"))
        of_each = ", ".join(f"{name} {ms:.2f}" for name, ms in parts.items())
        yield f"{one.name}: {whole:.2f} ms of CPU a request ({of_each}), {rate:.0f} requests a second"
    for name in ("cpu_ms", "rate"):
        ratios = [getattr(turn[0], name) / getattr(turn[1], name) for turn in costs]
        yield f"this / other, {name}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="bench.versus", description=__doc__.splitlines()[0])
    options.add_argument("other", type=Path, help="another checkout of the platform")
    options.add_argument("--world", choices=WORLDS, default="100k")
    options.add_argument("--wiring", choices=WIRINGS, default="one_process")
    options.add_argument("--rounds", type=int, default=12)
    options.add_argument("--requests", type=int, default=100, help="of each side in a round")
    options.add_argument("--at-once", type=int, default=1, help="requests under way")
    arguments = options.parse_args(argv)
    world = prepare(arguments.world, CACHE.resolve(), print)
    with ExitStack() as stack:
        trees = {"this": Path.cwd(), "other": arguments.other.resolve()}
        sides = [stack.enter_context(side(name, tree, world, arguments.wiring)) for name, tree in trees.items()]
        for line in told(sides, measured(sides, arguments.rounds, arguments.requests, arguments.at_once)):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
