"""A data set's acts as models read them (training/models/contract.py): person by person, oldest first."""

from __future__ import annotations

import numpy as np

from training.dataset import Dataset
from training.models.contract import Interactions, Side
from training.sequences import DISMISS
from training.split import Mask
from winnow.encoding import Schema, fit_scales, fit_vocabularies
from winnow.features import Ints, ItemView

ITEM_SIDE = ("item_categories", "item_brand", "item_tokens", "item_log_price", "item_has_price")


def interactions_of(dataset: Dataset, mask: Mask) -> Interactions:
    """The acts in `mask` that say yes: all but dismissals. A session's acts are its user's where the log names one. Of
    items what is known besides their ids comes along."""
    owner = np.arange(len(dataset.people))
    for session, link in dataset.log.links.items():
        owner[session] = link.user
    acts = np.flatnonzero(mask & (dataset.acts.type != DISMISS))
    person = owner[dataset.acts.user[acts]]
    acts = acts[np.argsort(person, kind="stable")]
    return Interactions(
        items=dataset.acts.item[acts],
        starts=np.concatenate([[0], np.cumsum(np.bincount(person, minlength=len(owner)))]),
        n_items=len(dataset.items),
        values=dataset.acts.value[acts],
        at=dataset.acts.at[acts],
        item_side=item_side(dataset),
    )


def plain(items: Ints, starts: Ints, n_items: int) -> Interactions:
    """Acts of which nothing is known but who acted on what in which order."""
    nothing = np.full(len(items), np.nan, np.float32)
    return Interactions(items, starts, n_items, nothing, np.arange(len(items), dtype=np.float64))


def item_side(dataset: Dataset) -> Side:
    """Content of all items, no ids: what a model may say of items that nobody acted on."""
    views = [ItemView(item) for item in dataset.items]
    schema = Schema(ITEM_SIDE, fit_vocabularies(ITEM_SIDE, views, ()), fit_scales(ITEM_SIDE, views, "item"))
    return Side(schema, *schema.encode(views))
