"""Where candidates come from: one file per source, one verb each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.retrieval.ask import Ask, Found
from services.retrieval.model import Model


class Source(Protocol):
    """Proposes items. A platform error costs this source's candidates, not the answer."""

    @property
    def name(self) -> str: ...

    def propose(self, model: Model, asks: Sequence[Ask]) -> list[Found]:
        """One `Found` per ask, at most `ask.n` rows each. Runs in a thread."""
        ...
