"""The Ranking port: candidates in, predictions out. Per candidate there is no Python, only columns.

A candidate that the catalogue does not know is scored as an item of which nothing is known, so the answer always has
one prediction per candidate and the order of the others stands. One bundle at a time serves; `use` switches between
two requests.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.ranking.bundle import RankingBundle
from services.ranking.drift import SHOWN, Drift
from services.ranking.item_states import ItemStates
from winnow.candidate_features import candidate_numbers
from winnow.catalogue import Catalogue, Rows
from winnow.errors import FailedPrecondition, InvalidArgument
from winnow.features import UserView
from winnow.ports import RankQuery
from winnow.requests import Readiness
from winnow.types import HEADS, Floats, Predictions
from winnow.worker import Upkeep, Worker

MAX_CANDIDATES = 5_000  # of one query


@dataclass(frozen=True, eq=False)
class Model:
    """One bundle put beside the catalogue."""

    bundle: RankingBundle
    items: ItemStates
    drift: Drift
    as_of: int  # changes of the catalogue that the service had been told of when this was begun


@dataclass(frozen=True, eq=False)
class Asked:
    """One call. What it takes from the catalogue (rows of candidates, facts in the views) is of one moment, `catalogue`
    the position of the item log then."""

    queries: Sequence[RankQuery]
    rows: Sequence[Rows]
    views: Sequence[UserView]
    catalogue: int


class RankingService:
    """Give `changed` every write of the catalogue; it answers once a model is loaded and used."""

    def __init__(
        self,
        catalogue: Catalogue,
        default_objectives: Mapping[str, float],
        worker: Worker,
        surface_objectives: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._default = weights(default_objectives)
        self._of_surface = {surface: weights(wanted) for surface, wanted in (surface_objectives or {}).items()}
        self._worker = worker
        self._upkeep = Upkeep("ranking-upkeep", self._absorb)
        self._model: Model | None = None
        self._kept: Callable[[], Model | None] = lambda: None  # that upkeep looked after last; not kept alive by it
        self._changes = 0
        self._buffers = threading.local()

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        model = self._model
        if model is None:
            raise FailedPrecondition("no ranking bundle is loaded yet")
        if not queries:
            return []
        views = [self._view(query) for query in queries]
        asked = Asked(queries, [self._rows(query) for query in queries], views, self._catalogue.watermark)
        return await self._worker.run(self._rank, model, asked)

    async def ready(self) -> Readiness:
        return Readiness(True) if self._model else Readiness(False, ("ranking bundle",))

    # ------------------------------------------------------------------------------------------ upkeep

    def changed(self, rows: Rows) -> None:
        """Rows of the catalogue were written (`winnow.catalogue.Changed`)."""
        self._changes += 1
        self._upkeep.changed(rows)

    async def settled(self) -> None:
        """Returns when every change so far counts."""
        await self._upkeep.settled()

    def load(self, bundle: RankingBundle) -> Model:
        """Put a bundle beside the catalogue: every item through item_net. Takes seconds, so run it in a thread."""
        drift = Drift(bundle.id, [feature.name for feature in bundle.user_schema.numeric], bundle.reference)
        model = Model(bundle, ItemStates(bundle, self._catalogue), drift, as_of=self._changes)
        model.items.absorb(model.items.stale())
        return model

    def use(self, model: Model) -> None:
        """Serve this model from the next request on. Called on the event loop."""
        self._model = model
        SHOWN.drift = model.drift
        if model.as_of != self._changes:
            self._upkeep.changed(np.empty(0, np.int64))

    def close(self) -> None:
        self._worker.close()
        self._upkeep.close()

    def _absorb(self, rows: Rows) -> None:
        model = self._model
        if model is not None:
            model.items.absorb(rows if model is self._kept() else model.items.stale())
            self._kept = weakref.ref(model)

    # ------------------------------------------------------------------------------------------ one request

    def _rows(self, query: RankQuery) -> Rows:
        if len(query.candidates) > MAX_CANDIDATES:
            raise InvalidArgument(f"at most {MAX_CANDIDATES}", field="candidates")
        return self._catalogue.rows(query.candidates.item_ids)

    def _view(self, query: RankQuery) -> UserView:
        """Facts of items are read here, on the event loop that writes them: all are of one position of their log."""
        view = UserView(query.user, query.context, self._catalogue.get)
        _ = view.items
        return view

    def _rank(self, model: Model, asked: Asked) -> list[Predictions]:
        """In a thread. People share one run of user_net; meeting their candidates is a run each, because padding
        people to one length costs more than the runs (500 candidates fill a core by themselves)."""
        bundle, schema = model.bundle, model.bundle.user_schema
        values = [schema.values(view) for view in asked.views]
        ids, numbers = schema.encode_values(values, len(values))
        people = bundle.user_net.run({"ids": ids, "numbers": numbers})
        answers = []
        for n, query in enumerate(asked.queries):
            user = {"user_vectors": people["vectors"][n : n + 1], "user_hidden": people["hidden"][n : n + 1]}
            candidates = candidate_numbers(query.candidates, bundle.candidates, asked.views[n])[None]
            heads = self._meet(model, user, model.items.places(asked.rows[n]), candidates)
            wanted = self._weights(query)
            vector = schema.vector(values[n], asked.catalogue) if query.vector else None
            model.drift.observe(heads[:, 0], numbers[n])
            answers.append(Predictions(heads, heads @ wanted, bundle.id, vector))
        return answers

    def _weights(self, query: RankQuery) -> npt.NDArray[np.float32]:
        """(3,) the request's own, or those of its surface, or the platform's."""
        if query.objectives:
            return weights(query.objectives)
        return self._of_surface.get(query.context.surface, self._default)

    def _meet(self, model: Model, user: dict[str, Floats], places: Rows, candidates: Floats) -> Floats:
        """One person and n places of the item tables → heads (n, 3)."""
        if not len(places):
            return np.empty((0, len(HEADS)), np.float32)
        vectors, hidden = self._gathered(model.items, places)
        items = {"item_vectors": vectors[None], "item_hidden": hidden[None]}
        return np.asarray(model.bundle.cross.run({**user, **items, "candidates": candidates})["heads"][0], np.float32)

    def _gathered(self, items: ItemStates, places: Rows) -> tuple[Floats, Floats]:
        """The items' states in this thread's own buffers: fresh megabytes per request would be paged in each time."""
        tables = items.vectors, items.hidden
        buffers: tuple[Floats, Floats] | None = getattr(self._buffers, "pair", None)
        if buffers is None or len(buffers[0]) < len(places) or buffers[0].shape[1:] != tables[0].shape[1:]:
            room = max(1024, len(places))
            buffers = (
                np.empty((room, *tables[0].shape[1:]), np.float32),
                np.empty((room, tables[1].shape[1]), np.float32),
            )
            self._buffers.pair = buffers
        out = buffers[0][: len(places)], buffers[1][: len(places)]
        for table, buffer in zip(tables, out, strict=True):
            np.take(table, places, axis=0, out=buffer, mode="clip")
        return out


def weights(objectives: Mapping[str, float]) -> npt.NDArray[np.float32]:
    """(3,) weight per head."""
    unknown = sorted(set(objectives) - set(HEADS))
    if unknown:
        raise InvalidArgument(f"unknown objective; known are {', '.join(HEADS)}", field=f"objectives.{unknown[0]}")
    return np.asarray([objectives.get(head, 0.0) for head in HEADS], np.float32)
