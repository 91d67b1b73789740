"""What a run measures, in order, and under which names its figures are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.faces import SKIPPED
from bench.figures import Figures
from bench.kernels import Finder, Scorer, time_steps
from bench.load import FACES, FaceName, Load
from bench.measure import Measured, highest_rate, measure
from bench.processes import WIRINGS, Platform, Wiring, running
from bench.worlds import World
from parts.program import HOST
from winnow.artifacts import open_bundle

RATES = (50, 100)  # requests per second
CANDIDATES = (500, 1_000)  # ranked
RANKED = 500  # candidates that a request ranks
LATE_MS = 50.0  # p99 of a rate that still counts
HEADLINE = ("rest", "one_process", "100k", 50)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long everything is measured, in seconds. `probes` rates are tried for the highest one, each for `probe_s` and at
    least `probe_requests`: of fewer, the 99th percentile is the slowest one. One that did not hold is tried again, up to
    `probe_times`: what others on the machine do in one window is not the platform's."""

    window_s: float = 10.0
    headline_s: float = 30.0
    probe_s: float = 5.0
    probe_requests: int = 300
    probe_times: int = 2
    probes: int = 5
    kernels_s: float = 6.0


QUICK = Lengths(3.0, 5.0, probe_s=3.0, probe_requests=100, probe_times=1, probes=3, kernels_s=2.0)


@dataclass(slots=True)
class Bench:
    """One run. Figures are kept as soon as they are there; `faults` counts wrong answers by where and why."""

    lengths: Lengths
    say: Say
    figures: Figures = field(default_factory=Figures)
    faults: dict[str, int] = field(default_factory=dict)
    noise: list[float] = field(default_factory=list)

    def rank(self, scorer: Scorer) -> None:
        """The ranker in both forms over the same candidates."""
        for n in CANDIDATES:
            took = time_steps(scorer.races(n), self.lengths.kernels_s)
            plain, factorised = (float(np.median(took[f"{n}.{form}"])) for form in ("plain", "factorised"))
            self.figures.put(f"rank.{n}.plain_ms", plain)
            self.figures.put(f"rank.{n}.factorised_ms", factorised)
            self.figures.put(f"rank.{n}.speedup", plain / factorised)
            self.figures.put(f"rank.{n}.max_difference", scorer.difference(n))
            self.say(f"ranker, {n} candidates: plain {plain:.2f} ms, factorised {factorised:.2f} ms")

    def world(self, world: World, wirings: Sequence[Wiring] = WIRINGS, faces: Sequence[FaceName] = FACES) -> None:
        """Everything about one data set. The kernels are timed before and after: the machine may change meanwhile."""
        kernels = Kernels.load(world)
        if f"rank.{RANKED}.plain_ms" not in self.figures.values:
            self.rank(kernels.scorer)
        times = [kernels.measure(self.lengths.kernels_s / 2)]
        for wiring in wirings:
            self.say(f"{world.name}, {wiring}: starting")
            with running(world.home, wiring, world.home / "logs" / wiring) as platform:
                self.platform(world, wiring, platform, faces)
        times.append(kernels.measure(self.lengths.kernels_s / 2))
        bare = {name: float(np.mean([part[name] for part in times])) for name in times[0]}
        for name, ms in bare.items():
            self.figures.put(f"kernels.{world.name}.{name}_ms", ms)
        total = bare["user_tower"] + bare["search"] + bare[f"cross_{RANKED}"]
        self.figures.put(f"kernels.{world.name}.total_ms", total)
        self.overhead(world, wirings, faces, total)

    def platform(self, world: World, wiring: Wiring, platform: Platform, faces: Sequence[FaceName]) -> None:
        where = f"{wiring}.{world.name}"
        for face in faces:
            for rate in RATES:
                headline = (face, wiring, world.name, rate) == HEADLINE
                seconds = self.lengths.headline_s if headline else self.lengths.window_s
                name, measured = f"e2e.{face}.{where}.{rate}rps", self.ask(world, platform, face, rate, seconds)
                self.keep(name, measured)
                for process, cpu_ms in zip(platform.processes, measured.shares_ms_per_request, strict=True):
                    self.figures.put(f"{name}.cpu_ms.{process}", cpu_ms)
        for face in faces:
            highest = self.highest(world, platform, face, where)
            self.figures.put(f"e2e.{face}.{where}.max_rps_p99_50ms", highest)
            if face == "rest":
                self.figures.put(f"e2e.{where}.max_rps_p99_50ms", highest)
        rss = platform.rss_mb()
        for name, mb in rss.items():
            if len(rss) > 1:
                self.figures.put(f"e2e.{where}.rss_mb.{name}", mb)
        self.figures.put(f"e2e.{where}.rss_mb", sum(rss.values()))

    def ask(self, world: World, platform: Platform, face: FaceName, rate: float, seconds: float) -> Measured:
        port = platform.rest if face == "rest" else platform.grpc
        return measure(Load(face, HOST, port, rate, seconds, world.people, seed=int(rate)), platform.all)

    def keep(self, name: str, measured: Measured) -> None:
        outcome, put = measured.outcome, self.figures.put
        put(f"{name}.p50_ms", outcome.percentile(50))
        put(f"{name}.p99_ms", outcome.percentile(99))
        put(f"{name}.cpu_ms_per_request", measured.cpu_ms_per_request)
        put(f"{name}.lag_p99_ms", float(np.percentile(outcome.lag_ms, 99)))
        put(f"{name}.other_cpu_percent", 100 * measured.other_cpu)
        for stage, times in outcome.took_ms.items():
            put(f"{name}.stage.{stage}.p50_ms", float(np.median(times)))
        self.count(name, measured)
        self.say(
            f"{name}: p50 {outcome.percentile(50):.1f} ms, p99 {outcome.percentile(99):.1f} ms, "
            f"CPU {measured.cpu_ms_per_request:.1f} ms a request, others use {100 * measured.other_cpu:.0f} % CPU"
        )

    def highest(self, world: World, platform: Platform, face: FaceName, where: str) -> float:
        """The highest rate at which every answer is right and the 99th percentile is below 50 ms."""

        def holds(rate: float) -> bool:
            return any(held(rate) for _ in range(self.lengths.probe_times))

        def held(rate: float) -> bool:
            seconds = max(self.lengths.probe_s, self.lengths.probe_requests / rate)
            measured = self.ask(world, platform, face, rate, seconds)
            late = measured.outcome.percentile(99)
            right = not measured.outcome.faults
            self.say(f"  {face} {where} at {rate:.0f} requests/s: p99 {late:.0f} ms{'' if right else ', faults'}")
            return right and late < LATE_MS

        cpu_ms = self.figures.values[f"e2e.{face}.{where}.{RATES[-1]}rps.cpu_ms_per_request"]
        return highest_rate(holds, 700.0 / cpu_ms, self.lengths.probes)

    def count(self, name: str, measured: Measured) -> None:
        """Every answer of a measured window must be right; overload probes are judged by `highest`. An answer without
        a stage is wrong as well, unless more was asked than can be answered: then leaving stages out is the design."""
        self.noise.append(measured.other_cpu)
        outcome = measured.outcome
        without = {fault: times for fault, times in outcome.faults.items() if fault.startswith(SKIPPED)}
        self.figures.put(f"{name}.degraded_percent", 100 * sum(without.values()) / len(outcome))
        overloaded = outcome.percentile(99) >= LATE_MS
        for fault, times in outcome.faults.items():
            if not (overloaded and fault in without):
                self.faults[f"{name}: {fault}"] = times

    def overhead(self, world: World, wirings: Sequence[Wiring], faces: Sequence[FaceName], bare_ms: float) -> None:
        """CPU of a whole answer over CPU of the bare models, at the lowest rate."""
        for wiring in wirings:
            for face in faces:
                name = f"e2e.{face}.{wiring}.{world.name}"
                cpu_ms = self.figures.values[f"{name}.{RATES[0]}rps.cpu_ms_per_request"]
                self.figures.put(f"{name}.overhead_ratio", cpu_ms / bare_ms)
                if (face, wiring, world.name, RATES[0]) == HEADLINE:
                    self.figures.put("e2e.overhead_ratio", cpu_ms / bare_ms)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The bare models of a world's bundles."""

    finder: Finder
    scorer: Scorer

    @classmethod
    def load(cls, world: World) -> Kernels:
        finder = Finder.load(open_bundle(world.retrieval, "retrieval"), RANKED)
        return cls(finder, Scorer.load(open_bundle(world.ranking, "ranking"), max(CANDIDATES)))

    def measure(self, seconds: float) -> Mapping[str, float]:
        """Mean CPU milliseconds of each model, as a request's CPU time is a mean."""
        steps = self.finder.steps() | self.scorer.steps(RANKED)
        return {name: float(times.mean()) for name, times in time_steps(steps, seconds).items()}
