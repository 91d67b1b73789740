"""What people do with a platform, and what goes wrong on purpose, so that every series has something to say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil

from cli.schedule import Metrics as JobMetrics
from cli.schedule import Turn
from jobs.progress import Metrics as StreamMetrics

PEOPLE = [f"u{n}" for n in range(60)]
QUERIES = ("features", "aggregates")


class Load:
    """One client. Every call is checked: what is refused on purpose must be refused so."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._number = itertools.count()

    def visit(self, user: str) -> None:
        """A page is asked for, seen, clicked and bought from."""
        answer = self._post("/v1/recommendations", {"user_id": user, "n": 5}).json()
        page, items = answer["request_id"], [line["item_id"] for line in answer["items"]]
        events = [self._event("impression", user, item, page, position=n) for n, item in enumerate(items, 1)]
        events += [self._event("click", user, item, page) for item in items[:2]]
        events += [self._event("purchase", user, items[0], page, value=9.5, quantity=2)]
        self._post("/v1/events", {"events": events})

    def others(self) -> None:
        """The other kinds of requests; events of no page, of an unknown one, of an item that was not on it."""
        page = self._http.get("/v1/trending", params={"n": 3}).json()["request_id"]
        self._http.get("/v1/items/i1/similar").raise_for_status()
        for more in ({}, {"request_id": "nobody's"}, {"request_id": page}):
            self._post("/v1/events", {"events": [self._event("click", "u1", "i299", **more)]})
        self._http.put(f"/v1/items/new-{next(self._number)}", json={"title": "New"}).raise_for_status()
        self._post("/v1/recommendations:batch", {"requests": [{"user_id": user, "n": 3} for user in PEOPLE]})

    def refused(self) -> None:
        """An event that says nothing anybody could take, and a duplicate."""
        assert self._http.post("/v1/events", json={"events": [{"type": "stare"}]}).status_code == 422
        again = self._event("click", "u1", "i1")
        self._post("/v1/events", {"events": [again]})
        assert self._post("/v1/events", {"events": [again]}).json()["duplicates"] == 1

    def _event(self, kind: str, user: str, item: str, page: str = "", **more: Any) -> dict[str, Any]:
        request = {"request_id": page} if page else {}
        return {"event_id": f"e{next(self._number)}", "type": kind, "user_id": user, "item_id": item, **request, **more}

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return self._http.post(path, json=body).raise_for_status()


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """Its callers wait until they give up."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def streamed(metrics: StreamMetrics) -> None:
    """A batch of each query, as Spark reports it."""
    offsets = {"winnow.events": {"0": 90}}
    report: dict[str, Any] = {
        "numInputRows": 10,
        "batchDuration": 800,
        "batchId": 1,
        "stateOperators": [{"numRowsTotal": 5, "numRowsDroppedByWatermark": 0}],
        "sources": [{"endOffset": offsets, "latestOffset": {"winnow.events": {"0": 97}}}],
        "observedMetrics": {},
    }
    for query in QUERIES:
        metrics.running.labels(query).set(1)
        metrics.count(report | {"name": query})


def turned(metrics: JobMetrics) -> None:
    """A job was done."""
    metrics.count("refresh", Turn(time.time() - 3, 2.5, "done", "", 0))
