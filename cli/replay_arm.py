"""One platform of `winnow replay --live`: every event by its REST face, and every answer from there.

One platform after the other is started on its real parts: one that is retrained when a month ends, one that never is.
Each begins with what was known when the first month began. Every day it learns what a shop would tell it: new items
and prices, then all baskets; before a day's baskets, each person whose first basket of the month comes that day asks,
with the token of the newest event. A turn of retraining is `winnow retrain` on the platform's own log, gate included;
play goes on once the platform answers by what passed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from cli.baskets import TIMEOUT_S, Log, Row, Told, changed, plain, posted, put
from cli.models import registry_of
from cli.replay import KINDS
from cli.turns import Exit
from winnow import kafka
from winnow.errors import FailedPrecondition, Unavailable
from winnow.features import DAY_S, Ints
from winnow.topics import DECISIONS, EVENTS, Topic
from winnow.types import MAX_EVENTS

if TYPE_CHECKING:
    from parts.stack import Stack
    from training.past import Past
    from training.questions import Question
    from training.replay import Month

TUNING = {
    # What counts is what is answered, not when: a machine that trains beside must not make a stage late.
    "WINNOW_FEATURE_BUDGET_MS": "30000",
    "WINNOW_RETRIEVAL_BUDGET_MS": "30000",
    "WINNOW_RANKING_BUDGET_MS": "30000",
    "WINNOW_WRITE_BUDGET_MS": "30000",
    "WINNOW_CANDIDATES": "200",
}
LANES = 4  # questions at the same time
SERVES_S = 120.0  # from a promotion to an answer of it, on a machine that does something else too
TURN_S = 3_600.0  # of retraining

Say = Callable[[str], None]
Keep = Callable[[dict[str, Any]], None]


@dataclass
class Arm:
    """What one platform answered: item ids by question, month by month, and how its turns ended."""

    name: str
    months: dict[str, list[list[str]]] = field(default_factory=dict)
    turns: dict[str, str] = field(default_factory=dict)
    told: Told = field(default_factory=Told)
    token: str = ""  # of the newest event
    behind: int = 0  # answers that said that they lack events of their token
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        return {
            "months": self.months,
            "events": self.told.events,
            "items": self.told.items,
            "answers": self.told.answers,
            "behind": self.behind,
            "skipped": dict(self.told.skipped),
            "turns": self.turns,
            "seconds": round(self.seconds),
        }


@dataclass(frozen=True, eq=False)
class Play:
    """What is played: `asked` are the questions of each month, in the order of time."""

    past: Past
    log: Log
    asked: Mapping[Month, Sequence[Question]]
    preset: str
    seed: int

    @property
    def months(self) -> list[Month]:
        return list(self.asked)


def sampled(asked: Sequence[Question], people: int, seed: int) -> list[Question]:
    """At most `people` of a month's questions (0: all), in their order."""
    if not people or len(asked) <= people:
        return list(asked)
    kept = np.random.default_rng(seed).choice(len(asked), people, replace=False)
    return [asked[row] for row in np.sort(kept)]


def played(play: Play, arm: Arm, home: Path, folder: Path, parts: tuple[str, ...], keep: Keep, say: Say) -> Arm:
    """One arm from its first month to its last; Unavailable where the platform refuses something."""
    began = time.monotonic()
    with started(home, folder, parts, say) as stack, ExitStack() as opened:
        clients = [opened.enter_context(client(stack.ports["rest"])) for _ in range(LANES)]
        say(f"complete answers {serving(clients[0], champions(home)):.1f} s later")
        items = {item.item_id: item for item in play.past.items(play.months[0].start)}
        broker = Broker(stack.address("kafka")) if "kafka" in parts else None
        for month in play.months:
            if broker is not None:
                broker.trim()
            if arm.name == "retrained" and month != play.months[0]:
                arm.turns[str(month)] = retrained(play, stack, clients[0], say)
            arm.months[str(month)] = []
            for day, rows in month_of(play.log, month):
                put(clients[0], changed(play.past, day, items), arm.told)
                due = [one for one in play.asked[month] if day <= at(one) < day + DAY_S]
                arm.months[str(month)] += answered(clients, due, arm)
                told(clients[0], rows, arm)
            arm.seconds = time.monotonic() - began
            keep(arm.document())
            say(f"{arm.name}, {month}: {arm.told.events:,} events, {arm.told.answers:,} answers")
    return arm


class Broker:
    """The arm's own broker, kept small: the one for a single machine holds all it has in memory."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._before: dict[Topic, dict[int, int]] = {}

    def trim(self) -> None:
        """Delete what was there when this was called last; all consumers are past that by now."""
        for topic, offsets in self._before.items():
            kafka.trim(self._bootstrap, topic, offsets)
        self._before = {topic: kafka.end_offsets(self._bootstrap, topic) for topic in (EVENTS, DECISIONS)}


@contextmanager
def started(home: Path, folder: Path, parts: tuple[str, ...], say: Say) -> Iterator[Stack]:
    """Every part and the five services over `home`; all of it ends with the block."""
    from parts.program import free_ports, running
    from parts.stack import PORTS, Stack

    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    stack = Stack(folder.absolute(), home.absolute(), parts, ports, {}, TUNING)
    with ExitStack() as opened:
        for wave in filter(None, stack.waves()):
            say(f"starting {', '.join(program.name for program in wave)}")
            opened.enter_context(running(*wave))
        yield stack


def client(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_S, trust_env=False)


def month_of(log: Log, month: Month) -> Iterator[tuple[float, list[Row]]]:
    """The days of a month that hold events."""
    for day, rows in log.days(month.start):
        if day >= month.next().start:
            return
        yield day, rows


def at(question: Question) -> float:
    return float(question.dataset.acts.at[question.before])


def told(client: httpx.Client, rows: Sequence[Row], arm: Arm) -> None:
    """A day's events, in the order of time."""
    for first in range(0, len(rows), MAX_EVENTS):
        events = [plain(row) for row in rows[first : first + MAX_EVENTS]]
        arm.token = posted(client, "/v1/events", {"events": events})["token"]
        arm.told.events += len(events)


def answered(clients: Sequence[httpx.Client], due: Sequence[Question], arm: Arm) -> list[list[str]]:
    """The answers to some questions, asked side by side."""
    bodies = [body_of(one, arm.token) for one in due]
    with ThreadPoolExecutor(len(clients)) as lanes:
        shares = [[*range(lane, len(bodies), len(clients))] for lane in range(len(clients))]
        parts = lanes.map(partial(asked, bodies=bodies), clients, shares)
        found = {place: answer for part in parts for place, answer in part.items()}
    for answer in found.values():
        arm.told.answers += 1
        arm.told.skipped.update(answer["skipped"])
        arm.behind += answer.get("token_included") is False
    return [[item["item_id"] for item in found[place]["items"]] for place in range(len(bodies))]


def asked(client: httpx.Client, places: Sequence[int], *, bodies: Sequence[Row]) -> dict[int, Row]:
    return {place: posted(client, "/v1/recommendations", bodies[place]) for place in places}


def body_of(question: Question, token: str) -> Row:
    from training.rankings import DEEPEST

    person = question.dataset.people[question.person]
    return {
        "user_id": person.user_id,
        "session_id": person.session_id,
        "n": DEEPEST,
        "explain": False,
        "include_seen": question.dataset.repeats,
        "objectives": {"click": 1.0},
        "context": {"at": question.context.at.isoformat() if question.context.at else None},
        **({"token": token} if token else {}),
    }


# ---------------------------------------------------------------------------------------------- retraining


def retrained(play: Play, stack: Stack, client: httpx.Client, say: Say) -> str:
    """One turn on what the platform's log holds now; returns once the platform answers by what passed."""
    registry = [] if "mlflow" not in stack.parts else ["--mlflow", f"http://{stack.address('mlflow')}"]
    command = [sys.executable, "-m", "cli", "retrain", "--home", str(stack.home), *registry]
    command += ["--preset", play.preset, "--seed", str(play.seed), "--json"]
    with (stack.folder / "retrain.log").open("ab") as log:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=TURN_S, check=False)
    if ended.returncode not in (Exit.DONE, Exit.REFUSED):
        raise FailedPrecondition(f"winnow retrain ended with {ended.returncode}; see {log.name}")
    document = json.loads(ended.stdout)
    promoted = {kind: document[kind]["bundle"] for kind in KINDS if document.get(kind, {}).get("outcome") == "promoted"}
    wait = serving(client, promoted)
    words = ", ".join(f"{k} {document[k]['outcome']}" for k in KINDS if k in document)
    say(f"retrained in {document['seconds'].get('total', 0):.0f} s: {words}; served {wait:.1f} s later")
    return words


def champions(home: Path) -> dict[str, str]:
    """The bundles that a home's registry says should serve, by kind."""
    registry = registry_of(home)
    found = {kind: registry.champion(kind) for kind in KINDS}
    return {kind: version.bundle for kind, version in found.items() if version is not None}


def serving(client: httpx.Client, bundles: Mapping[Any, str]) -> float:
    """Seconds until an answer is of these bundles."""
    began = time.monotonic()
    while bundles:
        found = posted(client, "/v1/recommendations", {"session_id": "replay", "n": 1, "explain": False})["bundles"]
        if all(found.get(kind) == bundle for kind, bundle in bundles.items()):
            break
        if time.monotonic() - began > SERVES_S:
            raise Unavailable(f"the platform answers by {found} {SERVES_S:g} s after {dict(bundles)} were promoted")
        time.sleep(0.2)
    return time.monotonic() - began


# ---------------------------------------------------------------------------------------------- figures


def figures_of(play: Play, arms: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per month, as `training.replay.figures` makes them, of the arms' documents."""
    from training.replay import figures, references

    row_of = {item_id: row for row, item_id in enumerate(play.past.whole.item_ids)}

    def rows(month: Month, arm: Mapping[str, Any]) -> list[Ints]:
        return [np.asarray([row_of[one] for one in places], np.int64) for places in arm["months"][str(month)]]

    return [
        figures(
            month,
            asked,
            {**{name: rows(month, arm) for name, arm in arms.items()}, **references(play.past.whole, month, asked)},
        )
        for month, asked in play.asked.items()
    ]
