"""Models are promoted and rolled back under load, among them one that is corrupt and one with a foreign schema.

What must hold: no request fails; whatever bundles an answer names are the ones that made it; what is broken is refused
and the old one goes on; a promotion and a rollback serve within seconds.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from drills.platform import Platform, Say
from drills.rivals import Rivals, rivals
from parts.program import HOST
from winnow.artifacts import Bundle
from winnow.registry import MlflowRegistry, Version

CALLERS = 3
PEOPLE = 20
AT = "2026-01-31T12:00:00Z"  # one moment, so that the same bundles give the same answer
TIMEOUT_S = 10.0
SERVES_S = 30.0
REFUSED_S = 6.0  # longer than a follower takes to look at a version
AIM_S = 5.0  # of a rollback

Answer = tuple[tuple[str, float], ...]
"""Item ids with their scores."""


@dataclass
class Watch:
    """What the callers got. `answers` by person and bundles, each with how often it came."""

    failures: Counter[str] = field(default_factory=Counter)
    answers: dict[tuple[str, str, str], Counter[Answer]] = field(default_factory=lambda: defaultdict(Counter))
    degraded: int = 0
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, user: str, answer: httpx.Response) -> None:
        with self.lock:
            self.requests += 1
            if answer.status_code != 200:
                self.failures[f"status {answer.status_code}"] += 1
                return
            told = answer.json()
            if told["skipped"]:
                self.degraded += 1
                return
            shown = tuple((item["item_id"], round(item["score"], 5)) for item in told["items"])
            self.answers[(user, told["bundles"]["retrieval"], told["bundles"]["ranking"])][shown] += 1

    @property
    def mixed(self) -> int:
        """Answers that are not the one that these bundles give this person."""
        return sum(sum(kinds.values()) - max(kinds.values()) for kinds in self.answers.values())

    @property
    def distinct(self) -> int:
        """How many pairs of bundles gave their own answers to the first person who was asked under all of them."""
        by_user: dict[str, set[Answer]] = defaultdict(set)
        for (user, _, _), kinds in self.answers.items():
            by_user[user].add(kinds.most_common(1)[0][0])
        return max(map(len, by_user.values()), default=0)


@dataclass(frozen=True, slots=True)
class Promotions:
    """The figures of one drill."""

    promotions: int
    promoted_slowest_s: float
    promoted_mean_s: float
    back_slowest_s: float
    back_mean_s: float
    refused: int
    requests: int
    failed: dict[str, int]
    degraded: int
    mixed: int
    distinct: int

    @property
    def held(self) -> bool:
        return (
            not self.failed
            and not self.mixed
            and self.refused == 2
            and self.back_slowest_s <= AIM_S
            and self.distinct > 1
        )


def promotions(platform: Platform, say: Say, rounds: int = 20) -> Promotions:
    """`rounds` promotions, each followed by its rollback, the ranker's and retrieval's in turn; the two broken ones
    come after a quarter and half of them."""
    made = rivals(platform.world, platform.stack.folder / "rivals", say)
    registry = MlflowRegistry(f"http://{platform.stack.address('mlflow')}", platform.stack.folder / "registry")
    at_first = {kind: champion(registry, kind) for kind in ("ranking", "retrieval")}
    took: list[tuple[float, float]] = []
    refused = 0
    with watched(platform) as watch:
        for n in range(rounds):
            if n in (rounds // 4, rounds // 2):
                refused += broken(platform, registry, made, "corrupt" if n == rounds // 4 else "foreign", say)
            kind = "ranking" if n % 2 else "retrieval"
            version = registry.register(made.ranking if n % 2 else made.retrieval)
            there = switched(platform, registry, version)
            took.append((there, switched(platform, registry, at_first[kind])))
            say(f"promotion {n + 1} of {rounds}, {kind}: {took[-1][0]:.1f} s; rolled back: {took[-1][1]:.1f} s")
    return Promotions(
        len(took),
        max(there for there, _ in took),
        sum(there for there, _ in took) / len(took),
        max(back for _, back in took),
        sum(back for _, back in took) / len(took),
        refused,
        watch.requests,
        dict(watch.failures),
        watch.degraded,
        watch.mixed,
        watch.distinct,
    )


def champion(registry: MlflowRegistry, kind: Any) -> Version:
    found = registry.champion(kind)
    assert found is not None
    return found


def switched(platform: Platform, registry: MlflowRegistry, version: Version) -> float:
    """Seconds from moving the alias to an answer that names the bundle."""
    began = time.monotonic()
    registry.promote(version)
    while served(platform, version.kind) != version.bundle:
        if time.monotonic() - began > SERVES_S:
            break
        time.sleep(0.05)
    return time.monotonic() - began


def served(platform: Platform, kind: str) -> str:
    answer = platform.ask(platform.world.people[0])
    return str(answer.json()["bundles"].get(kind, "")) if answer.status_code == 200 else ""


def broken(platform: Platform, registry: MlflowRegistry, made: Rivals, name: str, say: Say) -> bool:
    """Promote what must be refused; True when the old one went on and the log says why."""
    bundle: Bundle = getattr(made, name)
    before, old = champion(registry, "ranking"), served(platform, "ranking")
    registry.promote(registry.register(bundle))
    time.sleep(REFUSED_S)
    kept = served(platform, "ranking") == old
    registry.promote(before)
    lines = platform.programs["ranking"].log.read_text("utf-8", "replace").splitlines()
    reasons = [line for line in lines if bundle.id in line or "refused" in line]
    say(
        f"{name}: {'refused' if kept and reasons else 'NOT REFUSED'}; {reasons[-1][:200] if reasons else 'nothing logged'}"
    )
    return kept and bool(reasons)


@contextmanager
def watched(platform: Platform) -> Iterator[Watch]:
    """Callers that ask for the same people again and again, until the end."""
    watch, over = Watch(), threading.Event()
    people = platform.world.people[:PEOPLE]

    def call(first: int) -> None:
        base = f"http://{HOST}:{platform.stack.ports['rest']}"
        with httpx.Client(base_url=base, timeout=TIMEOUT_S) as http:
            n = first
            while not over.is_set():
                user = people[n % len(people)]
                n += 1
                try:
                    body = {"user_id": user, "n": 10, "context": {"at": AT}}
                    watch.note(user, http.post("/v1/recommendations", json=body))
                except httpx.TransportError as broken_off:
                    watch.failures[type(broken_off).__name__] += 1

    threads = [threading.Thread(target=call, args=(n * 7,), name=f"caller-{n}") for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join()
