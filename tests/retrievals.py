"""Retrieval and ranking services over tiny bundles, as tests want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.ranking import build as ranking_build
from services.ranking.service import RankingService
from services.retrieval import build as retrieval_build
from services.retrieval.service import RetrievalService
from services.retrieval.settings import Settings as RetrievalSettings
from tests.bundles import make_items, tiny_ranking_bundle, tiny_retrieval_bundle
from winnow.artifacts import Bundle
from winnow.catalogue import Catalogue
from winnow.types import Item


@dataclass(frozen=True)
class Shop:
    """Items and bundles trained (so to speak) on them; services over them are made as often as wanted."""

    items: Sequence[Item]
    retrieval: Bundle
    ranking: Bundle

    @classmethod
    def make(cls, path: Path, n: int = 200, index: str = "flat") -> Shop:
        items = make_items(n)
        retrieval = tiny_retrieval_bundle(path / "retrieval", items, index=index)
        return cls(items, retrieval, tiny_ranking_bundle(path / "ranking", items))

    def catalogue(self, items: Sequence[Item] | None = None) -> Catalogue:
        """Rows in another order than the bundle's."""
        catalogue = Catalogue()
        catalogue.upsert(reversed(self.items) if items is None else items)
        return catalogue

    def retrieve(self, catalogue: Catalogue | None = None, **settings: Any) -> RetrievalService:
        service = retrieval_build.build(RetrievalSettings(**settings), catalogue or self.catalogue())
        service.use(retrieval_build.load_bundle(service, self.retrieval))
        return service

    def rank(self, catalogue: Catalogue | None = None, **settings: Any) -> RankingService:
        service = ranking_build.build(ranking_build.Settings(**settings), catalogue or self.catalogue())
        service.use(ranking_build.load_bundle(service, self.ranking))
        return service


def put(service: RetrievalService | RankingService, catalogue: Catalogue, *items: Item) -> None:
    """Write items and tell the service, as `winnow.catalogue.follow` does."""
    service.changed(catalogue.upsert(items))
