"""What answers are like, as metrics: how many are whole, how much of the catalogue they show, how popular it is.

Counted on the request path, some microseconds an answer. Labels are kinds of requests, variants and what the answer is
like; an item is a bit in a column.
"""

from __future__ import annotations

import math
import time

import numpy as np
from prometheus_client import Counter, Gauge

from services.gateway.outcomes import Outcomes
from winnow.catalogue import Catalogue
from winnow.decisions import RECOMMEND, SIMILAR, TRENDING, Decision

BY = ["kind", "variant"]
WHOLE, POORER, EMPTY = "whole", "poorer", "empty"
POPULARITY = "trending"  # the source whose score is log(1 + acts lately) of each candidate
LATELY_MIN = 60  # minutes in which an item counts as shown

ANSWERS = Counter(
    "winnow_answers_total", "Answers: whole, poorer for a skipped stage or source, or empty", ["quality", *BY]
)
ITEMS = Counter("winnow_shown_items_total", "Items in answers", BY)
WEIGHED = Counter("winnow_shown_weighed_items_total", "Items in answers whose popularity is known", BY)
BITS = Counter("winnow_shown_popularity_log2_total", "Sum of log2(1 + acts lately) of those items", BY)
DISTINCT = Gauge("winnow_shown_distinct_items", "Different items in this process's answers within the last hour")


class Series:
    """Of one kind of requests and one variant: looked up once, because a look-up costs more than the count."""

    def __init__(self, kind: str, variant: str) -> None:
        self.answers = {quality: ANSWERS.labels(quality, kind, variant) for quality in (WHOLE, POORER, EMPTY)}
        self.items = ITEMS.labels(kind, variant)
        self.weighed = WEIGHED.labels(kind, variant)
        self.bits = BITS.labels(kind, variant)


class Shown:
    """Of one gateway's answers, over the catalogue that the gateway follows."""

    def __init__(self, catalogue: Catalogue, outcomes: Outcomes, variant: str) -> None:
        self._catalogue = catalogue
        self._last = np.zeros(1024, np.uint32)  # by row of the catalogue: minute in which it was shown last
        self.outcomes = outcomes
        self._series = {(kind, variant): Series(kind, variant) for kind in (RECOMMEND, SIMILAR, TRENDING)}
        DISTINCT.set_function(self.distinct)

    def answered(self, decision: Decision) -> None:
        """One answer leaves."""
        by = (decision.kind, decision.variant)
        series = self._series.get(by) or self._series.setdefault(by, Series(*by))
        series.answers[EMPTY if not len(decision.rows) else POORER if decision.skipped else WHOLE].inc()
        self.outcomes.shown(decision)
        if not len(decision.rows):
            return
        series.items.inc(len(decision.rows))
        self._weigh(decision, series)
        self._mark(decision)

    def distinct(self) -> int:
        """Items shown lately."""
        return int(np.count_nonzero(self._last > minute() - LATELY_MIN))

    def _weigh(self, decision: Decision, series: Series) -> None:
        candidates = decision.candidates
        if POPULARITY not in candidates.source_names:
            return
        logs = candidates.scores[decision.rows, candidates.source_names.index(POPULARITY)]
        series.bits.inc(float(logs.sum()) / math.log(2))
        series.weighed.inc(len(logs))

    def _mark(self, decision: Decision) -> None:
        rows = self._catalogue.rows(decision.candidates.item_ids[decision.rows])
        if len(self._last) < len(self._catalogue):
            room = len(self._catalogue) + len(self._last)
            self._last = np.concatenate([self._last, np.zeros(room - len(self._last), np.uint32)])
        self._last[rows[rows >= 0]] = minute()


def minute() -> int:
    return int(time.time() / 60)
