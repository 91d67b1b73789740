"""`winnow trace`: one request in this process, and what stood after each stage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from cli.answers import document, number, reason_of, remarks
from cli.console import note, show, table
from cli.embedded import embedded
from cli.homes import AsJson, Data, HomeOption, home_of
from winnow.requests import RecommendRequest
from winnow.types import Candidates, Item, Person, Predictions, UserState

if TYPE_CHECKING:
    from pathlib import Path

FIRST = 5  # items shown after each stage
WATCHED = {"feature": "users", "retrieval": "retrieve", "ranking": "rank"}

Find = Callable[[str], Item | None]


class Watched:
    """A port that answers as the one behind it and keeps the last answer of one method."""

    def __init__(self, port: Any, method: str) -> None:
        self._port, self._method = port, method
        self.answer: Any = None

    def __getattr__(self, name: str) -> Any:
        return self._kept if name == self._method else getattr(self._port, name)

    async def _kept(self, *args: Any, **kwargs: Any) -> Any:
        answers = await getattr(self._port, self._method)(*args, **kwargs)
        self.answer = answers[0]
        return answers


def trace(
    user: Annotated[str, typer.Option("--user", help="Whose request: a user id.")] = "",
    session: Annotated[str, typer.Option("--session", help="Or an anonymous session's id.")] = "",
    n: Annotated[int, typer.Option("-n", help="How many items, 1 to 100.")] = 10,
    query: Annotated[str, typer.Option("--query", help="Free text to search for.")] = "",
    data: Data = "ml-100k",
    home: HomeOption = None,
    as_json: AsJson = False,
) -> None:
    """One request, stage by stage: its time, how many items, the first five."""
    request = RecommendRequest(Person(user, session), n=n, query=query)
    traced = asyncio.run(watch(home_of(data, home), request))
    show(traced, stage_table(f"one request of {user or session}", traced["stages"]), as_json)
    if not as_json:
        note(remarks(traced["answer"]))


async def watch(home: Path, request: RecommendRequest) -> dict[str, Any]:
    """The stages of the request, and its answer. It is asked once before, so that times are those of a warm process."""
    ports: dict[str, Watched] = {}

    def through(name: str, port: Any) -> Any:
        if name not in WATCHED:
            return port
        ports[name] = Watched(port, WATCHED[name])
        return ports[name]

    async with embedded(home, through) as gateway:
        await gateway.recommend([request])
        [answer] = await gateway.recommend([request])
        told = document(answer)
        seen = {name: port.answer for name, port in ports.items()}
        return {"stages": stages_of(seen, told, gateway.item), "answer": told}


def stages_of(seen: Mapping[str, Any], answer: Mapping[str, Any], find: Find) -> list[dict[str, Any]]:
    """Per stage its time in ms, the number of items it left, and the first of them."""
    took, lines = answer["took_ms"], answer["items"]
    first = {
        "feature": state_rows(seen["feature"], find),
        "retrieval": candidate_rows(seen["retrieval"], find),
        "ranking": ranked_rows(seen["retrieval"], seen["ranking"], find),
        "arrange": [row(one["item_id"], find, one["score"], ", ".join(one["sources"])) for one in lines],
        "explanation": [row(one["item_id"], find, one["score"], reason_of(one)) for one in lines],
    }
    sizes = {
        "feature": len(seen["feature"].history),
        "retrieval": len(seen["retrieval"]),
        "ranking": len(seen["ranking"].scores),
        "arrange": len(lines),
        "explanation": sum(one["reason"] is not None for one in lines),
    }
    return [
        {"stage": stage, "ms": took.get(stage, 0.0), "items": sizes[stage], "first": rows[:FIRST]}
        for stage, rows in first.items()
    ]


def state_rows(user: UserState, find: Find) -> list[dict[str, Any]]:
    """The newest acts of the history, and what was done."""
    history = user.history
    newest = range(len(history) - 1, max(len(history) - 1 - FIRST, -1), -1)
    return [row(history.item_ids[n], find, float(history.values[n]), str(history.types[n])) for n in newest]


def candidate_rows(candidates: Candidates, find: Find) -> list[dict[str, Any]]:
    """The head of retrieval's own order."""
    head = range(min(FIRST, len(candidates)))
    return [
        row(candidates.item_ids[n], find, float(candidates.scores[n].max()), ", ".join(candidates.sources_of(n)))
        for n in head
    ]


def ranked_rows(candidates: Candidates, predictions: Predictions, find: Find) -> list[dict[str, Any]]:
    """The best by score, and the place that retrieval had given them."""
    best = np.argsort(-predictions.scores, kind="stable")[:FIRST]
    return [
        row(candidates.item_ids[n], find, float(predictions.scores[n]), f"place {n + 1} of retrieval's") for n in best
    ]


def row(item_id: str, find: Find, score: float, about: str) -> dict[str, Any]:
    item = find(item_id)
    known = None if np.isnan(score) else score
    return {"item_id": item_id, "title": item.title if item else "", "score": known, "about": about}


def stage_table(title: str, stages: list[dict[str, Any]]) -> Table:
    rows = table(title, "stage", "#ms", "#items", "first five", "#score", "")
    for stage in stages:
        for n, one in enumerate(stage["first"] or [{"item_id": "", "title": "–", "score": None, "about": ""}]):
            head = (stage["stage"], f"{stage['ms']:.1f}", f"{stage['items']:,}") if n == 0 else ("", "", "")
            name = escape(f"{one['title']} [{one['item_id']}]" if one["item_id"] else one["title"])
            rows.add_row(
                *head, name, number(one["score"]), escape(one["about"]), end_section=n == len(stage["first"]) - 1
            )
    return rows
