"""The definitions that every engine shares: windows and their panes, the decay, the gap of a session, limits.

Windows (5 min, 1 h, 1 d, 7 d) are counted in panes, each as wide as the hop of its windows: a window of length L at the
moment t holds the events before t whose pane begins after t - L. Its head is exact and its tail moves in hops ("sawtooth
windows"), so an event belongs to one pane per hop instead of to every window that slides over it, and a stream, a batch
and a request that add the same panes get the same number.

`recent` is `winnow.features.item_stats`' popularity with exponential decay, kept forward: each act weighs
2 ** ((t - LANDMARK_S) / HALF_LIFE_S), which adds up, orders items at any moment, and becomes `recent` by one factor
(Cormode et al., Forward Decay, 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from winnow.features import DAY_S, HALF_LIFE_DAYS
from winnow.types import EventType

MINUTE_S, HOUR_S = 60, 3_600
LANDMARK_S = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
HALF_LIFE_S = HALF_LIFE_DAYS * DAY_S
SESSION_GAP_S = 30 * MINUTE_S
LAST_N = 200  # acts of one person that are kept as a list
MAX_BASKET = 50  # distinct items of one session whose pairs count: pairs grow with the square
DEFAULT_LATENESS_S = HOUR_S  # an event that comes later than that counts in the batch only

ACTS = tuple(kind.value for kind in EventType if kind is not EventType.IMPRESSION)
COUNTED = {
    EventType.IMPRESSION.value: "impressions",
    EventType.CLICK.value: "clicks",
    EventType.CART.value: "carts",
    EventType.PURCHASE.value: "purchases",
    EventType.RATING.value: "ratings",
    EventType.DISMISS.value: "dismisses",
}
"""Event type to the name of its count."""


@dataclass(frozen=True, slots=True)
class TrailingWindow:
    """A window that ends now. `hop_s` is the width of the panes that it is added up from."""

    name: str
    length_s: int
    hop_s: int


WINDOWS = (
    TrailingWindow("5m", 5 * MINUTE_S, MINUTE_S),
    TrailingWindow("1h", HOUR_S, MINUTE_S),
    TrailingWindow("1d", 24 * HOUR_S, HOUR_S),
    TrailingWindow("7d", 7 * 24 * HOUR_S, HOUR_S),
)
HOPS_S = tuple(dict.fromkeys(window.hop_s for window in WINDOWS))
STATS_HOP_S = 24 * HOUR_S  # panes of items that are never forgotten: their sums are `winnow.features.ItemStats`

LOG_ORDER = ("log_position", "topic", "topic_partition", "topic_offset")
USER, ITEM = "user", "item"
PANES = {USER: HOPS_S, ITEM: (*HOPS_S, STATS_HOP_S)}
"""Whom panes are kept of, and of which widths."""
PANE_NUMBERS = (*COUNTED.values(), "count", "weight", "value_sum", "rated")
"""What a pane holds, in order."""


def recent_factor(at: float) -> float:
    """What a sum of weights is multiplied with to be `recent` at that moment."""
    return float(2.0 ** (-(at - LANDMARK_S) / HALF_LIFE_S))
