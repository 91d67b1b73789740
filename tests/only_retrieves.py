"""The part of a Retrieval port that tests of what comes after `retrieve` never reach."""

from __future__ import annotations

from collections.abc import Sequence

from winnow.filters import Filter
from winnow.requests import Readiness
from winnow.types import Candidates, UserState


class OnlyRetrieves:
    """For stand-ins that answer `retrieve`: whoever asks them anything else tests something they were not made for."""

    async def similar(
        self,
        item_ids: Sequence[str],
        n: int,
        filter: Filter | None = None,
        exclude: Sequence[str] = (),
        catalogue: int = 0,
    ) -> Candidates:
        raise NotImplementedError  # training, evaluation and search ask `retrieve` alone

    async def trending(
        self, n: int, user: UserState | None = None, filter: Filter | None = None, exclude: Sequence[str] = ()
    ) -> Candidates:
        raise NotImplementedError  # the same

    async def ready(self) -> Readiness:
        return Readiness(True)
