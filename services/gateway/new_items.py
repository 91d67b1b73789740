"""The floor under new items: of the places of a page, a least share is for what entered the catalogue lately.

A model knows little of an item that nobody has acted on, so it seldom shows it, so it never learns. The share is of every
page and of every first part of a list; where nothing new is among the candidates (retrieval's source `fresh` brings some)
the others keep the places.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from services.gateway.slate import with_share
from winnow.catalogue import Catalogue, Mask, Rows
from winnow.types import Strings

DAY_S = 86_400.0


@dataclass(frozen=True)
class NewItems:
    """`share` of the places, 0: no floor; an item is new for `days` after its `created_at`."""

    catalogue: Catalogue
    share: float
    days: float

    @property
    def strengths(self) -> dict[str, float]:
        """What a decision says of the floor; nothing where there is none."""
        return {"new_items_share": self.share, "new_items_days": self.days} if self.share else {}

    def lifted(self, order: Rows, item_ids: Strings, at: datetime) -> Rows:
        """The order (rows of the candidates `item_ids`, best first) with the floor kept, as it is at this moment."""
        if not self.share:
            return order
        return with_share(order, self.marks(item_ids, at)[0], self.share)

    def marks(self, item_ids: Strings, at: datetime) -> Mask:
        """(1, n) which of these are new; (0, n) where there is no floor."""
        if not self.share:
            return np.zeros((0, len(item_ids)), np.bool_)
        rows = self.catalogue.rows(item_ids)
        created = np.where(rows >= 0, self.catalogue.created[rows], 0.0) if len(self.catalogue) else np.zeros(len(rows))
        age_s = at.timestamp() - created
        return ((created > 0) & (age_s >= 0) & (age_s <= self.days * DAY_S))[None]
