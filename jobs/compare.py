"""Where what was served differs from what the log says, bit by bit and by name. Knows neither logs nor files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.known import Known
from winnow.features import FEATURES, UserView
from winnow.served import Served, vector_of
from winnow.types import UserState, Vector

Column = npt.NDArray[Any]
NOTHING = "nothing"
SHOWN = 60  # characters of a value


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that was served otherwise than it is recomputed, both as words. `name` is a feature, or a column of the
    state with the first place where it differs: `history.at[3]`."""

    request_id: str
    at: datetime
    name: str
    served: str
    recomputed: str


def differences(served: Served, known: Known) -> Iterator[Difference]:
    """None: the state, and the vector where one was logged, have the very bits that the logs give at their positions."""
    for name, one, other in pairs(served, known):
        yield Difference(served.request_id, served.at, name, one, other)


def pairs(served: Served, known: Known) -> Iterator[tuple[str, str, str]]:
    """(name, served, recomputed)."""
    user, catalogue = served.user, position_of_items(served)
    if user.watermark > known.events:
        yield "watermark", f"position {user.watermark}", f"the log of events ends at {known.events}"
    if (newest := max(catalogue, served.catalogue)) > known.items:
        yield "catalogue", f"position {newest}", f"the log of items ends at {known.items}"
    state = known.state(user.person, user.watermark)
    yield from of_facts(facts(user), facts(state))
    for name, column in columns(user).items():
        yield from of_columns(name, column, columns(state)[name])
    if served.vector is not None:
        view = UserView(state, served.context, lambda item_id: known.item(item_id, catalogue))
        yield from of_vectors(served.vector, view)


def position_of_items(served: Served) -> int:
    """Of the facts of items in the vector: whoever ranked follows the log at its own pace."""
    told = None if served.vector is None else served.vector.catalogue
    return served.catalogue if told is None else told


def facts(state: UserState) -> dict[str, Any]:
    return {
        "user_id": state.person.user_id,
        "session_id": state.person.session_id,
        "known": state.known,
        "events": state.events,
        "traits": dict(state.traits),
    }


def columns(state: UserState) -> dict[str, Column]:
    history = state.history
    return {
        "history.item_ids": history.item_ids,
        "history.types": history.types,
        "history.values": history.values,
        "history.at": history.at,
        "seen": state.seen,
        "seen_tail": state.seen_tail,
    }


def of_facts(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in one:
        if one[name] != other[name]:
            yield name, words(one[name]), words(other[name])


def of_columns(name: str, one: Column, other: Column) -> Iterator[tuple[str, str, str]]:
    """The first place where two columns differ; where one of them ends, the other has something else."""
    mine, theirs = bits(one), bits(other)
    if mine == theirs:
        return
    both = min(len(mine), len(theirs))
    place = next((n for n in range(both) if mine[n] != theirs[n]), both)
    yield f"{name}[{place}]", value_at(one, place), value_at(other, place)


def of_vectors(served: Vector, view: UserView) -> Iterator[tuple[str, str, str]]:
    names = (*served.texts, *served.numbers)
    unknown = [name for name in names if name not in FEATURES]
    for name in unknown:
        yield name, "served", "no such feature"
    again = vector_of(view, [name for name in names if name in FEATURES])
    for name, texts in again.texts.items():
        if served.texts.get(name) != texts:
            yield name, words(served.texts.get(name)), words(texts)
    for name, number in again.numbers.items():
        if name not in served.numbers:
            yield name, NOTHING, words(number)
        else:
            one, other = np.array([served.numbers[name]]), np.array([number])
            yield from ((name, a, b) for _, a, b in of_columns(name, one, other))


def bits(column: Column) -> list[Any]:
    """Values as they compare: NaN is NaN here, and 0.0 is not -0.0."""
    found: list[Any] = (column.view(f"u{column.itemsize}") if column.dtype.kind == "f" else column).tolist()
    return found


def value_at(column: Column, place: int) -> str:
    if place >= len(column):
        return NOTHING
    value = column[place]
    if column.dtype.kind != "f":
        return words(value if isinstance(value, str) else value.item())
    return f"{words(value.item())} ({bits(column[place : place + 1])[0]:0{2 * column.itemsize}x})"


def words(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= SHOWN else told[: SHOWN - 1] + "…"
