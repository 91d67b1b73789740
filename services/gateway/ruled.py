"""What business rules do to a list (`services.gateway.rules` says which there are).

Blocked items are a filter of the search, so lists stay full. Pinned ones join the candidates before they are ranked, unless
the request's own filter, its exclusions or what the person has seen say otherwise. The rest is order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from services.gateway import slate
from services.gateway.rules import Active, RuleBook
from winnow.catalogue import Catalogue, Mask, Rows
from winnow.filters import Any as AnyOf
from winnow.filters import Filter, holds
from winnow.seen import fingerprints
from winnow.types import Candidates, Context, Predictions, UserState, strings

NOTHING = np.empty(0, np.int64)
MOST = 5_000  # candidates that a ranker takes


class Ruled:
    """The rules of a book over a catalogue."""

    def __init__(self, catalogue: Catalogue, book: RuleBook) -> None:
        self.catalogue = catalogue
        self.book = book
        self._version = ""
        self._masks: dict[Filter, tuple[int, Mask]] = {}  # of the version's filters

    def active(self, kind: str, context: Context, at: datetime, searched: bool = False) -> Active:
        rules = self.book.rules
        if rules.version != self._version:
            self._version, self._masks = rules.version, {}
        return rules.active(kind, context, at, searched, datetime.now(UTC))

    def pinned(
        self,
        candidates: Candidates,
        rules: Active,
        user: UserState,
        tree: Filter | None = None,
        exclude: Sequence[str] = (),
        include_seen: bool = False,
    ) -> tuple[Candidates, Mapping[int, int]]:
        """The candidates with every pinned item that may be shown, and which of them stands at which place from 0."""
        if not rules.pins:
            return candidates, {}
        wanted = [(place, item_id) for place, item_id in rules.pins if self._may(item_id, rules.within(tree), exclude)]
        if not include_seen:
            seen = seen_by(user, [item_id for _, item_id in wanted])
            wanted = [pin for pin, is_seen in zip(wanted, seen, strict=True) if not is_seen]
        known = set(candidates.item_ids.tolist())
        candidates = with_items(candidates, [item_id for _, item_id in wanted if item_id not in known])
        row = {item_id: n for n, item_id in reversed(list(enumerate(candidates.item_ids.tolist())))}
        wanted = [(place, item_id) for place, item_id in wanted if item_id in row]
        return candidates, {place: row[item_id] for place, item_id in wanted}

    def boosted(self, candidates: Candidates, predictions: Predictions | None, rules: Active) -> Predictions | None:
        """The predictions with what is boosted in their scores; without predictions see `raised`."""
        if predictions is None or not rules.boosts:
            return predictions
        scores, rows = predictions.scores.astype(np.float64), self.catalogue.rows(candidates.item_ids)
        return replace(predictions, scores=(scores + self._boost(rows, rules, scores)).astype(np.float32))

    def raised(self, order: Rows, candidates: Candidates, rules: Active) -> Rows:
        """The order with what is boosted further up, where there are no scores: places count in their stead."""
        if not rules.boosts:
            return order
        worth = -np.argsort(order, kind="stable").astype(np.float64)
        return slate.ordered(order, worth + self._boost(self.catalogue.rows(candidates.item_ids), rules, worth))

    def order(self, order: Rows, candidates: Candidates, rules: Active, fixed: Mapping[int, int]) -> Rows:
        """The order (rows of the candidates, best first) as the other rules want it."""
        if not (rules.buries or rules.quotas or fixed):
            return order
        rows = self.catalogue.rows(candidates.item_ids)
        if rules.buries:
            buried = self._mask(AnyOf(rules.buries), rows)[order]
            order = np.concatenate([order[~buried], order[buried]])
        if rules.quotas or fixed:
            least, most = (np.asarray([quota[n] for quota in rules.quotas], np.int64) for n in (1, 2))
            last = len(order) - 1
            within: dict[int, int] = {}
            for place, row in fixed.items():
                within.setdefault(min(place, last), row)  # of those beyond a short list the first stands at its end
            order = slate.placed(order, self._marks(rows, rules), least, most, within)
        return order

    def alike(self, candidates: Candidates, rules: Active) -> Mask:
        """(k, n) what rules say of each candidate: two with the same column may change places and no rule is the worse."""
        if not rules.quotas and not rules.buries:
            return np.zeros((0, len(candidates)), np.bool_)
        rows = self.catalogue.rows(candidates.item_ids)
        buried = self._mask(AnyOf(rules.buries), rows)[None] if rules.buries else np.zeros((0, len(rows)), np.bool_)
        return np.vstack([self._marks(rows, rules), buried])

    def _boost(self, rows: Rows, rules: Active, scores: slate.Scores) -> slate.Scores:
        spread = float(np.ptp(scores)) if len(scores) else 0.0
        added = np.zeros(len(scores))
        for tree, strength in rules.boosts:
            added += strength * (spread or 1.0) * self._mask(tree, rows)
        return added

    def _marks(self, rows: Rows, rules: Active) -> Mask:
        marks = [self._mask(tree, rows) for tree, _, _ in rules.quotas]
        return np.array(marks, np.bool_).reshape(len(marks), len(rows))

    def _mask(self, tree: Filter, rows: Rows) -> Mask:
        """Which rows of the catalogue match; what it does not know (-1) does not."""
        position, mask = self._masks.get(tree, (-1, NOTHING.astype(np.bool_)))
        if position != self.catalogue.watermark or len(mask) != len(self.catalogue):
            mask = self.catalogue.mask(tree)
            self._masks[tree] = self.catalogue.watermark, mask
        found = np.zeros(len(rows), np.bool_)
        found[rows >= 0] = mask[rows[rows >= 0]]
        return found

    def _may(self, item_id: str, tree: Filter | None, exclude: Sequence[str]) -> bool:
        item = self.catalogue.get(item_id)
        return item is not None and item.available and item_id not in exclude and (tree is None or holds(tree, item))


def seen_by(user: UserState, item_ids: Sequence[str]) -> list[bool]:
    """Whether the person acted on each; a fingerprint counts as the item, as in retrieval."""
    recent = set(user.seen.tolist())
    tail = np.isin(fingerprints(strings(list(item_ids))), user.seen_tail)
    return [item_id in recent or bool(old) for item_id, old in zip(item_ids, tail, strict=True)]


def with_items(candidates: Candidates, item_ids: Sequence[str]) -> Candidates:
    """The candidates and these behind them, which no source proposed; of more than a ranker takes the last give way."""
    n = len(item_ids)
    if not n:
        return candidates
    if len(candidates) + n > MOST:
        candidates = candidates.take(np.arange(MOST - n))
    vectors = candidates.vectors
    return replace(
        candidates,
        item_ids=np.concatenate([candidates.item_ids, strings(list(item_ids))]),
        sources=np.concatenate([candidates.sources, np.zeros(n, candidates.sources.dtype)]),
        scores=np.concatenate([candidates.scores, np.zeros((n, candidates.scores.shape[1]), candidates.scores.dtype)]),
        vectors=None
        if vectors is None
        else np.concatenate([vectors, np.zeros((n, *vectors.shape[1:]), vectors.dtype)]),
    )
