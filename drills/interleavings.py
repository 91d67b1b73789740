"""Events and requests of many people interleave at random while services and parts are killed.

What must hold: an answer that was given a token includes its events or says that it does not, and one that says so is
believed by its content, too; every acknowledged event is in the log exactly once; what the stream counts is what the
log says.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import redis

from drills.platform import Platform, Say
from jobs.definitions import LAST_N, PANE_NUMBERS
from parts.program import HOST
from parts.services import INNER
from parts.stack import PARTS
from winnow.canonical import EVENTS
from winnow.errors import Unavailable
from winnow.home import events_folder
from winnow.segments import whole

PEOPLE = 50
CALLERS = 5
VICTIMS = (*INNER, "gateway", *(part for part in PARTS if part != "mlflow"))
KILL_EVERY_S = 4.0
DOWN_S = 1.0
TIMEOUT_S = 10.0
GIVE_UP_S = 180.0  # an event is sent again until then
STREAM_S = 240.0
HOP_S = 60  # of the panes that are compared


@dataclass
class Told:
    """What all callers saw together."""

    acknowledged: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    with_token: int = 0
    included: int = 0
    silent: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Interleavings:
    """The figures of one drill. `lies` are answers that claim a token and show an item which its events rule out."""

    steps: int
    seconds: float
    kills: dict[str, int]
    statuses: dict[str, int]
    acknowledged: int
    answers_with_token: int
    tokens_included: int
    silent: int
    lies: int
    lost: int
    twice: int
    people_counted_wrong: int
    stream_caught_up_s: float

    @property
    def held(self) -> bool:
        return not (self.silent or self.lies or self.lost or self.twice or self.people_counted_wrong)


def interleavings(platform: Platform, say: Say, steps: int = 10_000, seed: int = 0) -> Interleavings:
    """`steps` events and requests of `PEOPLE` new people; each caller has people of its own, so it knows their order."""
    told, began = Told(), time.monotonic()
    items = item_ids(platform)
    with killing(platform, say, seed) as kills:
        threads = [
            threading.Thread(target=call, args=(platform, told, items, n, steps // CALLERS, seed), name=f"caller-{n}")
            for n in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(1.0)
            if int(time.monotonic() - began) % 20 == 0:
                say(f"{sum(told.statuses.values()):,} of {steps:,} steps, {sum(kills.values())} kills")
    seconds = time.monotonic() - began
    platform.well_again_s()
    log = events_of(platform)
    times = Counter(log["event_id"])
    caught_up, wrong = stream_caught_up(platform, log, say)
    return Interleavings(
        steps,
        seconds,
        dict(kills),
        dict(told.statuses),
        len(told.acknowledged),
        told.with_token,
        told.included,
        len(told.silent),
        len(told.lies),
        sum(1 for event_id in told.acknowledged if not times[event_id]),
        sum(1 for n in times.values() if n > 1),
        wrong,
        caught_up,
    )


def item_ids(platform: Platform) -> list[str]:
    from training.dataset import load

    return [item.item_id for item in load(platform.home).items]


def call(platform: Platform, told: Told, items: Sequence[str], first: int, steps: int, seed: int) -> None:
    """One caller: at random an event of one of its people, or a request with that person's newest token."""
    chance = random.Random(seed * 1_000 + first)
    people = [f"drill-{n}" for n in range(first, PEOPLE, CALLERS)]
    tokens: dict[str, str] = {}
    acted: dict[str, set[str]] = {person: set() for person in people}
    with httpx.Client(base_url=f"http://{HOST}:{platform.stack.ports['rest']}", timeout=TIMEOUT_S) as http:
        for n in range(steps):
            person = chance.choice(people)
            if chance.random() < 0.5:
                item = chance.choice(items)
                tokens[person] = send(http, told, f"drill-{first}-{n}", person, item)
                acted[person].add(item)
            else:
                ask(http, told, person, tokens.get(person, ""), acted[person])


def send(http: httpx.Client, told: Told, event_id: str, person: str, item: str) -> str:
    """Sent until it is acknowledged, always under the same id; the token."""
    event = {
        "event_id": event_id,
        "type": "click",
        "user_id": person,
        "item_id": item,
        "occurred_at": datetime.now(UTC).isoformat(),
    }
    until = time.monotonic() + GIVE_UP_S
    while time.monotonic() < until:
        answer = posted(http, told, "/v1/events", event, "event")
        if answer is not None and answer.status_code < 300:
            with told.lock:
                told.acknowledged.add(event_id)
            return str(answer.json()["token"])
        time.sleep(0.1)
    raise Unavailable(f"{event_id} was not taken within {GIVE_UP_S:.0f} s")


def ask(http: httpx.Client, told: Told, person: str, token: str, acted: set[str]) -> None:
    """One request; what it says of its token must be there, and must be true."""
    body = {"user_id": person, "n": 10, **({"token": token} if token else {})}
    answer = posted(http, told, "/v1/recommendations", body, "request")
    if answer is None or answer.status_code != 200 or not token:
        return
    document: dict[str, Any] = answer.json()
    shown = {item["item_id"] for item in document["items"]}
    with told.lock:
        told.with_token += 1
        if "token_included" not in document:
            told.silent.append(document["request_id"])
        elif document["token_included"]:
            told.included += 1
            if shown & acted:
                told.lies.append(document["request_id"])


def posted(http: httpx.Client, told: Told, path: str, body: dict[str, Any], what: str) -> httpx.Response | None:
    try:
        answer = http.post(path, json=body)
        status = f"{what} {answer.status_code}"
    except httpx.TransportError as broken:
        answer, status = None, f"{what} {type(broken).__name__}"
    with told.lock:
        told.statuses[status] += 1
    return answer


@contextmanager
def killing(platform: Platform, say: Say, seed: int) -> Iterator[Counter[str]]:
    """Kill one after the other at random, and start it again a moment later, until the end."""
    kills: Counter[str] = Counter()
    over = threading.Event()
    chance = random.Random(seed)

    def kill_on() -> None:
        victims: list[str] = []
        while not over.wait(KILL_EVERY_S):
            victims = victims or chance.sample(VICTIMS, len(VICTIMS))
            victim = victims.pop()
            if victim in platform.programs:
                kills[victim] += 1
                platform.kill(victim)
                over.wait(DOWN_S)
                restarted(platform, victim, say)

    thread = threading.Thread(target=kill_on, name="killer")
    thread.start()
    try:
        yield kills
    finally:
        over.set()
        thread.join()


def restarted(platform: Platform, victim: str, say: Say) -> None:
    """Tried until it comes up: on a busy machine that may take longer than it usually does."""
    while True:
        try:
            return platform.restart(victim)
        except Unavailable as slow:
            say(f"{victim} did not come up: {slow.detail[:300]}")


# ---------------------------------------------------------------------------------------------- afterwards


def events_of(platform: Platform) -> dict[str, list[Any]]:
    """The whole log, columns."""
    names = ("event_id", "type", "item_id", "user_id", "occurred_at")
    found: dict[str, list[Any]] = whole(events_folder(platform.home), EVENTS, names).to_pydict()
    return found


def stream_caught_up(platform: Platform, log: dict[str, list[Any]], say: Say) -> tuple[float, int]:
    """Seconds until the stream's counts of the drill's people are the log's, and how many were still wrong then."""
    if "spark" not in platform.programs or "redis" not in platform.programs:
        return 0.0, 0
    wanted, lists = counted(log)
    client = redis.Redis(port=platform.stack.ports["redis"], decode_responses=True, socket_timeout=TIMEOUT_S)
    began, wrong = time.monotonic(), len(wanted)
    while wrong and time.monotonic() - began < STREAM_S:
        time.sleep(2.0)
        wrong = sum(
            panes(client, person) != wanted[person] or last(client, person) != lists[person] for person in wanted
        )
    say(f"the stream counts {len(wanted) - wrong} of {len(wanted)} people as the log does")
    return time.monotonic() - began, wrong


def counted(log: dict[str, list[Any]]) -> tuple[dict[str, dict[int, int]], dict[str, list[str]]]:
    """Clicks of the drill's people by the minute, and the ids of their newest acts."""
    minutes: dict[str, Counter[int]] = {}
    acts: dict[str, list[tuple[datetime, str]]] = {}
    for person, event_id, at in zip(log["user_id"], log["event_id"], log["occurred_at"], strict=True):
        if person and person.startswith("drill-"):
            minutes.setdefault(person, Counter())[int(at.timestamp()) // HOP_S * HOP_S] += 1
            acts.setdefault(person, []).append((at, event_id))
    newest = {person: [event_id for _, event_id in sorted(own, reverse=True)[:LAST_N]] for person, own in acts.items()}
    return {person: dict(own) for person, own in minutes.items()}, newest


def panes(client: Any, person: str) -> dict[int, int]:
    place = PANE_NUMBERS.index("clicks")
    found = client.hgetall(f"winnow:agg:pane:user:{HOP_S}:u:{person}")
    return {int(start): int(float(told.split(",")[place])) for start, told in found.items() if start != "#"}


def last(client: Any, person: str) -> list[str]:
    return [json.loads(act)[0] for act in client.zrange(f"winnow:agg:last:u:{person}", 0, -1, desc=True)]
