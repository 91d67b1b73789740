"""The part of a Retrieval port that tests of what comes after `retrieve` never reach."""

from __future__ import annotations

from winnow.ports import SimilarQuery, TrendingQuery
from winnow.requests import Readiness
from winnow.types import Candidates


class OnlyRetrieves:
    """For stand-ins that answer `retrieve`: whoever asks them anything else tests something they were not made for."""

    async def similar(self, query: SimilarQuery) -> Candidates:
        raise NotImplementedError  # training, evaluation and search ask `retrieve` alone

    async def trending(self, query: TrendingQuery) -> Candidates:
        raise NotImplementedError  # the same

    async def ready(self) -> Readiness:
        return Readiness(True)
