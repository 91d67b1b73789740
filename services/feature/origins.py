"""Of which trace the rows of a log are, until the broker has them: the log itself knows events, not requests.

Bounded and in memory: what a crash forgets is a trace that ends at the disk. Written on the event loop, read by the
thread that sends.
"""

from __future__ import annotations

from winnow.topics import Headers
from winnow.tracing import TraceContext, carried, carrying

MOST = 10_000  # rows


class Origins:
    """Positions of sampled rows."""

    def __init__(self) -> None:
        self._known: dict[int, TraceContext] = {}

    def note(self, position: int, rows: int) -> None:
        """The current request wrote `rows` rows, the last at `position`."""
        place = carried()
        if place is not None and len(self._known) + rows <= MOST:
            self._known.update(dict.fromkeys(range(position - rows + 1, position + 1), place))

    def headers(self, position: int) -> Headers:
        """What the record of this row carries."""
        return carrying(self._known.get(position)) if self._known else ()

    def forget(self, upto: int) -> None:
        """The broker has everything up to this position."""
        for position in [one for one in list(self._known) if one <= upto]:
            del self._known[position]
