"""Where the rows of a log go besides the disk: nowhere, or to a broker (`services.feature.forward`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from winnow.segments import Row

Key = Callable[[Row], bytes]
Value = Callable[[Row, int], bytes]


class Forwarding(Protocol):
    """Where the rows of a log go besides the disk."""

    def written(self, position: int, rows: int = 1) -> None:
        """Rows up to `position` are durable, the last `rows` of them by the current request."""
        ...

    async def reached(self, position: int, within_s: float) -> bool:
        """Whether the broker has everything up to `position`, waiting for it a little."""
        ...

    async def run(self) -> None:
        """Send, for ever."""
        ...


class Nowhere:
    """No broker: the log alone is enough."""

    def written(self, position: int, rows: int = 1) -> None:
        pass

    async def reached(self, position: int, within_s: float) -> bool:
        return False

    async def run(self) -> None:
        await asyncio.Event().wait()
