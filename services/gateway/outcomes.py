"""What became of what was shown: events that name an answer's `request_id` are counted for whatever made that answer.

Remembers the newest pages that this gateway answered, and of each item only whether it was seen, clicked, taken … once.
So an event that is sent twice counts once, and clicks never outnumber the items shown. An event of a page that another
gateway answered, or an old one, cannot be told whose it is: it is counted as such, whatever it says, so ratios between
what is told stay right (docs/adr/0015). Knows neither people nor how good anything is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from winnow.decisions import Decision
from winnow.serving.telemetry import begin
from winnow.types import HEADS, Event, EventType, Floats, Strings

BY = ["kind", "variant", "bundle"]
Labels = tuple[str, str, str]
NOBODY = "none"  # the bundle of an answer that nobody ranked
BUNDLES = 6  # newest ones that have series: their ids change with every training
CLICK = HEADS.index("click")
NO_REQUEST, UNKNOWN_REQUEST, NOT_ON_PAGE = "no_request", "unknown_request", "not_on_page"

PAGES = Counter("winnow_outcome_pages_total", "Answers of which an event came", BY)
OUTCOMES = Counter("winnow_outcomes_total", "Items shown that had an event of this type, each once", ["type", *BY])
REVENUE = Counter("winnow_outcome_revenue_total", "Price times quantity of what was bought off a page", BY)
PREDICTED = Counter("winnow_outcome_predicted_clicks_total", "Sum of P(click) of items that were seen", BY)
OBSERVED = Counter("winnow_outcome_observed_clicks_total", "Clicks on items that were seen and had a P(click)", BY)
UNATTRIBUTED = Counter("winnow_outcome_unattributed_total", "Events that no page can be told of", ["reason"])
ALL = (PAGES, OUTCOMES, REVENUE, PREDICTED, OBSERVED)
SEEN, CLICKED = EventType.IMPRESSION, EventType.CLICK


@dataclass(slots=True, eq=False)
class Page:
    """One answer: its labels, its items, their P(click) where somebody ranked, and per type which items had an event,
    a bit each."""

    by: Labels
    item_ids: Strings
    clicks: Floats | None
    had: dict[EventType, int] | None = None


class Outcomes:
    """Of the newest `pages` answers. For one event loop."""

    def __init__(self, pages: int) -> None:
        self._most = pages
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._bundles: OrderedDict[str, set[Labels]] = OrderedDict()  # least lately shown first
        begin(UNATTRIBUTED, reason=(NO_REQUEST, UNKNOWN_REQUEST, NOT_ON_PAGE))

    def shown(self, decision: Decision) -> None:
        """Remember an answer."""
        ranked = decision.predictions
        bundle = NOBODY if ranked is None else ranked.bundle
        by = (decision.kind, decision.variant, bundle)
        if by not in self._bundles.get(bundle, ()):
            self._welcome(by)
        self._bundles.move_to_end(bundle)
        clicks = None if ranked is None else ranked.heads[decision.rows, CLICK]
        self._pages[decision.request_id] = Page(by, decision.candidates.item_ids[decision.rows], clicks)
        if len(self._pages) > self._most:
            self._pages.popitem(last=False)

    def happened(self, events: Sequence[Event]) -> None:
        """Count events that were taken."""
        for event in events:
            if not event.request_id:
                UNATTRIBUTED.labels(NO_REQUEST).inc()
            elif (page := self._pages.get(event.request_id)) is None:
                UNATTRIBUTED.labels(UNKNOWN_REQUEST).inc()
            elif not len(places := (page.item_ids == event.item_id).nonzero()[0]):
                UNATTRIBUTED.labels(NOT_ON_PAGE).inc()
            else:
                self._count(page, int(places[0]), event)

    def _count(self, page: Page, place: int, event: Event) -> None:
        if page.by[2] not in self._bundles:  # made by one whose series are gone
            return
        if page.had is None:
            page.had = {}
            PAGES.labels(*page.by).inc()
        before, bit = page.had.get(event.type, 0), 1 << place
        if before & bit:
            return
        page.had[event.type] = before | bit
        OUTCOMES.labels(event.type.value, *page.by).inc()
        if event.type is EventType.PURCHASE and (event.value or 0) > 0:
            REVENUE.labels(*page.by).inc((event.value or 0) * event.quantity)
        if page.clicks is not None and event.type in (SEEN, CLICKED):
            self._compare(page, page.clicks, page.had, place, event.type)

    def _compare(self, page: Page, clicks: Floats, had: dict[EventType, int], place: int, kind: EventType) -> None:
        """What was predicted of items that were seen, and what came of it, in whichever order the events come."""
        if kind is SEEN:
            PREDICTED.labels(*page.by).inc(float(clicks[place]))
        if all(had.get(one, 0) >> place & 1 for one in (SEEN, CLICKED)):
            OBSERVED.labels(*page.by).inc()

    def _welcome(self, by: Labels) -> None:
        """What is new has series, from 0 on; those of the bundle that was not shown for longest go."""
        self._bundles.setdefault(by[2], set()).add(by)
        kind, variant, bundle = ((one,) for one in by)
        begin(OUTCOMES, type=[one.value for one in EventType], kind=kind, variant=variant, bundle=bundle)
        for metric in (PAGES, REVENUE, PREDICTED, OBSERVED):
            metric.labels(*by)
        if len(self._bundles) > BUNDLES:
            gone, _ = self._bundles.popitem(last=False)
            for metric in ALL:
                metric.remove_by_labels({"bundle": gone})
