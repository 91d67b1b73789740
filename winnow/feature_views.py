"""The features that a feature store keeps, as tables: whom each is about, which of `winnow.features` it holds, how long
a row counts. Feast's declarations, the offline writer and the online reader all read this list.

A store keeps what is known between requests. What a request itself decides is left out: the clock (`features.CLOCK`),
the surface and the device; a country here is the person's own. Neither Feast nor a storage format is known here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from winnow.features import FEATURES, ItemView, UserView

Entity = Literal["user", "item", "session"]
Dtype = Literal["string", "string_list", "double"]
Cell = str | list[str] | float | None

DTYPES: dict[str, Dtype] = {"category": "string", "categories": "string_list", "number": "double"}
LASTING_S = 100 * 365 * 86_400  # longer than any log: the data sets begin in the last century, their facts still hold
SESSION_S = 86_400  # a session that was silent for a day is over
KEYS: dict[Entity, str] = {"user": "user_id", "item": "item_id", "session": "session_id"}
"""Entity to the column that names it."""


@dataclass(frozen=True, slots=True)
class StoredView:
    """A table with one row per entity and moment. `lasts_s`: a row older than that counts as missing."""

    name: str
    entity: Entity
    features: tuple[str, ...]
    lasts_s: int = LASTING_S

    @property
    def key(self) -> str:
        return KEYS[self.entity]

    def dtype(self, feature: str) -> Dtype:
        return DTYPES[FEATURES[feature].kind]

    def row(self, view: UserView | ItemView) -> list[Cell]:
        """The features of one entity, in order; None where there is nothing to say ("" or NaN in `winnow.features`)."""
        return [cell(FEATURES[name].compute(view)) for name in self.features]


def cell(value: Any) -> Cell:
    if isinstance(value, str):
        return value or None
    if isinstance(value, Sequence):
        return list(value) or None
    return None if math.isnan(value) else float(value)


ACTIVITY = (
    "user_last_item_1",
    "user_last_item_2",
    "user_last_item_3",
    "user_top_category",
    "user_second_category",
    "user_top_brand",
    "user_log_events",
    "user_history_length",
    "user_mean_value",
    "user_last_value",
    "user_mean_log_price",
    "user_purchase_share",
    "user_rating_share",
)
USER_PROFILE = StoredView(
    "user_profile", "user", ("user_gender", "user_age_group", "user_occupation", "user_language", "user_country")
)
USER_ACTIVITY = StoredView("user_activity", "user", ACTIVITY)
SESSION_ACTIVITY = StoredView("session_activity", "session", ACTIVITY, SESSION_S)
ITEM_STATIC = StoredView(
    "item_static",
    "item",
    (
        "item_categories",
        "item_tokens",
        "item_category_1",
        "item_category_2",
        "item_category_3",
        "item_brand",
        "item_price_band",
        "item_era",
        "item_log_price",
        "item_has_price",
    ),
)
ITEM_POPULARITY = StoredView(
    "item_popularity",
    "item",
    (
        "item_count_band",
        "item_recent_band",
        "item_value_band",
        "item_log_count",
        "item_log_recent",
        "item_mean_value",
    ),
)
VIEWS = (USER_PROFILE, USER_ACTIVITY, SESSION_ACTIVITY, ITEM_STATIC, ITEM_POPULARITY)
SERVICES: dict[str, tuple[StoredView, ...]] = {
    "user": (USER_PROFILE, USER_ACTIVITY),
    "session": (SESSION_ACTIVITY,),
    "item": (ITEM_STATIC, ITEM_POPULARITY),
    "ranking": (USER_PROFILE, USER_ACTIVITY, ITEM_STATIC, ITEM_POPULARITY),
}
"""What is read together, by the name that Feast gives it."""
