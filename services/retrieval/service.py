"""The Retrieval port: people in, columns of candidates out; a batch is one pass through the models.

The event loop reads the catalogue and prepares each query (`Ask`), a thread runs models and searches, and another
thread keeps the tables current. One bundle at a time serves; `use` switches between two requests.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from services.retrieval.ask import NO_ROWS, NOBODY, Ask, Found, distinct, scored
from services.retrieval.bundle import RetrievalBundle
from services.retrieval.merge import Blend, Merged, merge
from services.retrieval.model import Model
from services.retrieval.part import Part
from services.retrieval.seen import Fingerprints
from services.retrieval.sources import Source
from services.retrieval.sources.tower import nearest
from winnow.catalogue import Catalogue, Mask, Rows
from winnow.directions import packed
from winnow.errors import FailedPrecondition, InvalidArgument, NotFound, WinnowError
from winnow.filters import Filter
from winnow.ports import RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.requests import Readiness
from winnow.serving.telemetry import POPULARITY_ACTS
from winnow.types import Candidates, Floats
from winnow.worker import Upkeep, Worker

Absorb = Callable[[Rows], None]
MAX_N = 5_000  # candidates in one answer
MASKS = 64  # filters whose rows are remembered; queries that share one share a search
BEHIND_S = 0.3  # that a question about items waits for what its asker knows of the catalogue
OUTDATED_S = 0.1  # that a question waits for the new vector of an item that changed, which has an old one


class RetrievalService:
    """Answers from `sources`, the last resort among them (`trending`) always having enough. `blends` (one per source)
    say how they come together. With a `part`, only its items are found; of the rest everything is known.

    `absorb` are the tables besides the model's that follow the catalogue. Give `changed` every write.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        sources: Sequence[Source],
        absorb: Sequence[Absorb],
        blends: Sequence[Blend],
        worker: Worker,
        part: Part | None = None,
    ) -> None:
        self.part = part
        self._catalogue = catalogue
        self._sources = tuple(sources)
        self._names = tuple(source.name for source in sources)
        self._blends = tuple(blends)
        self._fingerprints = Fingerprints(catalogue)
        self._absorbers = (self._fingerprints.absorb, *absorb)
        self._worker = worker
        self._upkeep = Upkeep("retrieval-upkeep", self._absorb)
        self._model: Model | None = None
        self._kept: Callable[[], Model | None] = lambda: None  # that upkeep looked after last; not kept alive by it
        self._changes = 0
        self._size = 0  # rows that every table besides the model's covers
        self._mine = np.empty(0, np.bool_)  # rows of this part, where there are parts
        self._masks: dict[Filter, Mask] = {}  # of filters that were asked for, until anything is written
        self._open = np.empty(0, np.bool_)  # known rows that are available; replaced when that changes
        if len(catalogue):
            self._claim(np.arange(len(catalogue)))
            self._absorb(np.arange(len(catalogue)))

    @property
    def source_names(self) -> tuple[str, ...]:
        return self._names

    @property
    def vectors(self) -> Floats:
        """(rows of the catalogue, d) of the bundle that serves."""
        model = self._serving()
        return model.vectors[: model.size]

    # ------------------------------------------------------------------------------------------ the port

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        model = self._serving()
        asks = [self._ask(query) for query in queries]
        return await self._worker.run(self._retrieve, model, asks) if asks else []

    async def similar(self, query: SimilarQuery) -> Candidates:
        model = self._serving()
        if query.catalogue > self._catalogue.watermark:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEHIND_S):
                    await self._catalogue.reach(query.catalogue)
        rows = self._catalogue.rows(query.item_ids)
        if not len(rows):
            raise InvalidArgument("name at least one item", field="item_ids")
        if (rows < 0).any():
            place = int(np.argmin(rows))
            raise NotFound(f"no item {query.item_ids[place]!r}", field=f"item_ids[{place}]")
        if rows.max() >= model.size:
            await self.settled()
        elif model.outdated(rows):
            with suppress(TimeoutError):
                async with asyncio.timeout(OUTDATED_S):
                    await self.settled()
        without = (*query.exclude, *query.item_ids)
        ask = self._ask(RetrieveQuery(NOBODY, query.n, filter=query.filter, exclude=without))
        return await self._worker.run(self._similar, model, ask, rows)

    async def trending(self, query: TrendingQuery) -> Candidates:
        model = self._serving()
        ask = self._ask(RetrieveQuery(query.user or NOBODY, query.n, filter=query.filter, exclude=query.exclude))
        return await self._worker.run(self._trending, model, ask)

    async def ready(self) -> Readiness:
        return Readiness(True) if self._model else Readiness(False, ("retrieval bundle",))

    # ------------------------------------------------------------------------------------------ upkeep

    def changed(self, rows: Rows) -> None:
        """Rows of the catalogue were written (`winnow.catalogue.Changed`)."""
        self._changes += 1
        self._claim(rows)
        self._reopen()
        self._upkeep.changed(rows)

    async def settled(self) -> None:
        """Returns when every change so far can be served."""
        await self._upkeep.settled()

    def load(self, bundle: RetrievalBundle) -> Model:
        """Put a bundle beside the catalogue; takes seconds, so run it in a thread. The one serving is not touched."""
        model = Model(bundle, self._catalogue, as_of=self._changes, part=self.part)
        model.absorb(model.stale())
        return model

    def use(self, model: Model) -> None:
        """Serve this model from the next request on. Called on the event loop."""
        self._model = model
        POPULARITY_ACTS.set(float(model.bundle.recent.sum()) + len(model.bundle.recent))
        self._reopen()
        if model.as_of != self._changes:
            self._upkeep.changed(np.empty(0, np.int64))

    def close(self) -> None:
        self._worker.close()
        self._upkeep.close()

    def _absorb(self, rows: Rows) -> None:
        if len(rows):
            for absorb in self._absorbers:
                absorb(rows)
            self._size = max(self._size, int(rows.max()) + 1)
        model = self._model
        if model is not None:
            model.absorb(rows if model is self._kept() else model.stale())
            self._kept = weakref.ref(model)

    # ------------------------------------------------------------------------------------------ on the loop

    def _serving(self) -> Model:
        if self._model is None:
            raise FailedPrecondition("no retrieval bundle is loaded yet")
        return self._model

    def _known(self) -> int:
        """Rows that everything covers: the ones that may be served."""
        return min(self._model.size, self._size) if self._model else 0

    def _reopen(self) -> None:
        self._open = self._catalogue.available[: self._known()].copy()
        self._masks.clear()
        if self.part is not None:
            self._open &= self._mine[: len(self._open)]

    def _claim(self, rows: Rows) -> None:
        """Note which of these rows are this part's."""
        if self.part is None or not len(rows):
            return
        more = len(self._catalogue) - len(self._mine)
        self._mine = np.concatenate([self._mine, np.zeros(more, np.bool_)])
        self._mine[rows] = self.part.mask(self._catalogue.item(row) for row in rows.tolist())

    def _ask(self, query: RetrieveQuery) -> Ask:
        if not 1 <= query.n <= MAX_N:
            raise InvalidArgument(f"must be between 1 and {MAX_N}", field="n")
        mask = self._mask(query.filter)
        rows_of, user = self._catalogue.rows, query.user
        out, seen = [rows_of(query.exclude)], rows_of(user.seen)
        if not query.include_seen:
            out += [seen, self._fingerprints.rows(user.seen_tail)]
        without = distinct(np.concatenate(out))
        return Ask(
            n=query.n,
            mask=mask,
            without=without[(without >= 0) & (without < len(mask))],
            user=user,
            history=rows_of(user.history.item_ids),
            seen=seen[seen >= 0] if query.include_seen else NO_ROWS,
            context=query.context,
            query=query.query,
            vectors=query.vectors,
        )

    def _mask(self, tree: Filter | None) -> Mask:
        """Rows open to a query. Without a filter all queries share one array, which the searches recognise."""
        if len(self._open) != self._known():
            self._reopen()
        if tree is None:
            return self._open
        if (known := self._masks.get(tree)) is None:
            if len(self._masks) >= MASKS:
                self._masks.clear()
            known = self._masks[tree] = self._catalogue.mask(tree)[: len(self._open)] & self._open
        return known

    # ------------------------------------------------------------------------------------------ in a thread

    def _retrieve(self, model: Model, asks: list[Ask]) -> list[Candidates]:
        found: list[list[Found]] = []
        skipped: list[str] = []
        for source in self._sources:
            try:
                found.append(source.propose(model, asks))
            except WinnowError:
                skipped.append(source.name)
                found.append([Found()] * len(asks))
        return [
            self._candidates(
                model, merge([of_source[n] for of_source in found], self._blends, ask.n), tuple(skipped), ask.vectors
            )
            for n, ask in enumerate(asks)
        ]

    def _similar(self, model: Model, ask: Ask, rows: Rows) -> Candidates:
        """Nearest to the mean of the items' vectors, and what occurs together with them; then whatever is popular."""
        mean = model.vectors[rows].mean(axis=0, keepdims=True)
        together = model.neighbours(model.bundle.together, rows, np.ones(len(rows), np.float32))
        proposals = {
            "tower": nearest(model, mean / max(float(np.linalg.norm(mean)), 1e-12), [ask])[0],
            "item_to_item": scored(ask, *together),
        }
        return self._named(model, ask, proposals)

    def _trending(self, model: Model, ask: Ask) -> Candidates:
        return self._named(model, ask, {})

    def _named(self, model: Model, ask: Ask, proposals: Mapping[str, Found]) -> Candidates:
        """These sources' proposals; trending fills up."""
        by_name = {source.name: source for source in self._sources}
        proposals = {"trending": by_name["trending"].propose(model, [ask])[0], **proposals}
        found = [proposals.get(name, Found()) for name in self._names]
        blends = [
            replace(blend, share=0.0) if name == "trending" else blend
            for name, blend in zip(self._names, self._blends, strict=True)
        ]
        return self._candidates(model, merge(found, blends, ask.n), ())

    def _candidates(self, model: Model, merged: Merged, skipped: tuple[str, ...], vectors: bool = False) -> Candidates:
        return Candidates(
            item_ids=self._catalogue.names(merged.rows),
            sources=merged.sources,
            scores=merged.scores,
            source_names=self._names,
            bundle=model.id,
            skipped=skipped,
            vectors=packed(model.vectors[merged.rows]) if vectors else None,
        )
