"""Decisions for tests."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np

from services.gateway.arrange import arrange
from winnow.decisions import Decision
from winnow.requests import Watermarks
from winnow.types import Candidates, Context, History, Person, Predictions, UserState, Vector, strings

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def decision(n: int = 4, offset: int = 0, shown: int = 3, **more: Any) -> Decision:
    found = candidates(n, [0.25 * row for row in range(n)])
    ranked = predictions([float(row % 3) for row in range(n)])
    told: dict[str, Any] = {
        "request_id": "r",
        "at": AT,
        "kind": "recommend",
        "user": user([("i1", "click", 1.5, 1e9)], ["i1"], [7]),
        "context": Context("home", "", "GB", AT),
        "candidates": found,
        "predictions": ranked,
        "rows": arrange(found, ranked, offset, shown),
        "propensities": np.full(shown, 0.5, np.float32),
        "offset": offset,
        "variant": "default",
        "skipped": ("explanation",),
        "watermarks": Watermarks(9, 9, 4, {"retrieval": "b"}),
        "arranged": {"mmr": 0.3},
    }
    return Decision(**told | more)


def candidates(n: int, scores: list[float]) -> Candidates:
    names = strings([f"i{row}" for row in range(n)])
    columns = np.array(scores, np.float32).reshape(n, 1)
    return Candidates(names, np.arange(n, dtype=np.uint32), columns, ("tower",), "b", ("text",))


def predictions(scores: list[float]) -> Predictions:
    column = np.array(scores, np.float32)
    vector = Vector({"user_id": ("u",), "tags": ("a", "b")}, {"age": math.nan, "acts": -0.0}, 3)
    return Predictions(np.repeat(column[:, None], 3, axis=1), column, "k", vector)


def user(acts: list[tuple[str, str, float, float]], seen: list[str], tail: list[int]) -> UserState:
    history = History(
        strings([act[0] for act in acts]),
        strings([act[1] for act in acts]),
        np.array([act[2] for act in acts], np.float32),
        np.array([act[3] for act in acts], np.float64),
    )
    return UserState(
        Person("u", "s"), True, {"age": "7"}, history, strings(seen), np.array(tail, np.uint32), len(acts), 9
    )
