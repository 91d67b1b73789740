"""Random event logs as messages of the topic, and what follows from them, computed again in plain Python."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from winnow.types import EventType

START_S = datetime(2025, 3, 1, 12, tzinfo=UTC).timestamp()
TYPES = [kind.value for kind in EventType]
Message = Mapping[str, Any]


def messages(
    n: int, seed: int, *, users: int = 6, items: int = 9, pace_s: float = 60.0, first: int = 0
) -> list[Message]:
    """`n` events in the order of their times, some in the same microsecond, with pauses that end sessions."""
    draw = random.Random(seed)
    at, found = START_S + first * pace_s, []
    for number in range(first, first + n):
        at += draw.choice((0.0, draw.expovariate(1 / pace_s), draw.expovariate(1 / pace_s)))
        at += draw.choice((0.0,) * 60 + (2_400.0, 40_000.0))
        found.append(message(f"e{seed}-{number}", number + 1, at, draw, users, items))
    return found


def message(event_id: str, log_position: int, at: float, draw: random.Random, users: int, items: int) -> Message:
    kind = draw.choice(TYPES)
    anonymous = draw.random() < 0.2
    return {
        "schema": 1,
        "log_position": log_position,
        "event_id": event_id,
        "type": kind,
        "item_id": f"i{draw.randrange(items)}",
        "occurred_at": datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds"),
        "user_id": "" if anonymous else f"u{draw.randrange(users)}",
        "session_id": f"s{draw.randrange(3)}",
        "value": draw.choice((1.0, 2.5, 4.0)) if kind == "rating" or draw.random() < 0.3 else None,
        "quantity": draw.choice((1, 3)),
        "request_id": f"r{log_position // 4}",
        "position": draw.choice((None, 1, 7)),
        "context": {"device": "phone"},
    }


def disturbed(log: Sequence[Message], seed: int, shift: int = 25) -> list[Message]:
    """As a network delivers it: up to `shift` places late, and one in ten twice."""
    draw = random.Random(seed)
    sent = [(place + draw.random() * shift, event) for place, event in enumerate(log)]
    sent += [(place + draw.random() * shift, event) for place, event in enumerate(log) if draw.random() < 0.1]
    return [event for _, event in sorted(sent, key=lambda pair: pair[0])]


def value(event: Message) -> bytes:
    return json.dumps(event).encode()


def key(event: Message) -> bytes:
    return str(event["user_id"] or event["session_id"]).encode()


def micros(event: Message) -> int:
    at = datetime.fromisoformat(event["occurred_at"])
    return round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


def person(event: Message) -> str:
    return f"u:{event['user_id']}" if event["user_id"] else f"s:{event['session_id']}"


def is_act(event: Message) -> bool:
    return bool(event["type"] != "impression")


def weight(at_us: int) -> float:
    return math.pow(2.0, (at_us / 1e6 - datetime(2020, 1, 1, tzinfo=UTC).timestamp()) / (30 * 86_400))


def panes_of(log: Iterable[Message]) -> dict[tuple[str, str, int, int], list[float]]:
    """(side, id, width, start) -> impressions, clicks, carts, purchases, ratings, dismisses, acts, weight, sum, rated."""
    order = ("impression", "click", "cart", "purchase", "rating", "dismiss")
    found: dict[tuple[str, str, int, int], list[float]] = defaultdict(lambda: [0.0] * 10)
    for event in log:
        sides = [("user", person(event), width) for width in (60, 3_600)]
        sides += [("item", event["item_id"], width) for width in (60, 3_600, 86_400)]
        for side, name, width in sides:
            seconds = micros(event) // 1_000_000
            numbers = found[side, name, width, seconds - seconds % width]
            numbers[order.index(event["type"])] += 1
            if is_act(event):
                numbers[6] += 1
                numbers[7] += weight(micros(event))
            if event["type"] == "rating":
                numbers[8] += event["value"]
                numbers[9] += 1
    return dict(found)


def last_of(log: Iterable[Message], n: int) -> dict[str, list[str]]:
    """Person -> ids of their newest acts, newest first."""
    found = defaultdict(list)
    for event in sorted(filter(is_act, log), key=lambda e: (micros(e), e["event_id"]), reverse=True):
        found[person(event)].append(event["event_id"])
    return {who: ids[:n] for who, ids in found.items()}


def sessions_of(log: Iterable[Message], gap_s: int = 1_800) -> list[tuple[str, int, int, int, int, tuple[str, ...]]]:
    """(person, first act, last act, acts, purchases, basket) of every session."""
    own: dict[str, list[list[Message]]] = defaultdict(list)
    for event in sorted(filter(is_act, log), key=micros):
        before = own[person(event)]
        if before and micros(event) - micros(before[-1][-1]) < gap_s * 1_000_000:
            before[-1].append(event)
        else:
            before.append([event])
    return sorted(summary(who, one) for who, several in own.items() for one in several)


def summary(who: str, acts: Sequence[Message]) -> tuple[str, int, int, int, int, tuple[str, ...]]:
    bought = [event["item_id"] for event in acts if event["type"] == "purchase"]
    return who, micros(acts[0]), micros(acts[-1]), len(acts), len(bought), tuple(sorted(set(bought)))


def pairs_of(sessions: Iterable[tuple[str, int, int, int, int, tuple[str, ...]]]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = defaultdict(int)
    for *_, basket in sessions:
        for one, other in combinations(basket, 2):
            found[one, other] += 1
            found[other, one] += 1
    return dict(found)


def window_count(log: Iterable[Message], event: Message, side: str, kind: str, length_s: int, hop_s: int) -> int:
    """Events of `kind` of the same person or item, before `event` in the log and in a pane of its window."""
    at, place = micros(event), event["log_position"]
    whose = person if side == "user" else (lambda one: one["item_id"])
    hop = hop_s * 1_000_000
    return sum(
        1
        for one in log
        if one["type"] == kind
        and whose(one) == whose(event)
        and (micros(one), one["log_position"]) < (at, place)
        and micros(one) // hop * hop > at - length_s * 1_000_000
    )
