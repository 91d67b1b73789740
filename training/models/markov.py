"""A first-order Markov chain: the share of the acts on an item that another item followed.

The strongest of the simple models wherever the order of acts means something (Dacrema et al. 2021,
https://arxiv.org/abs/1911.07698, and training/LOG.md). Popularity decides between equals. A new item follows nothing,
and nothing follows it, until somebody acted on it and the chain was counted again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from training.cooccurrence import transitions
from training.models.contract import Interactions
from training.models.item_to_item import ItemToItem, ItemToItemSettings
from winnow.types import HISTORY


@dataclass(frozen=True, slots=True)
class MarkovSettings(ItemToItemSettings):
    """With more `acts` or a `reach` beyond 1 it is a mixture of chains."""

    neighbours: Annotated[int, Field(ge=0, le=5_000)] = 500
    acts: Annotated[int, Field(ge=0, le=HISTORY)] = 1
    decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    reach: Annotated[int, Field(ge=1, le=10)] = 1  # acts after an item that count as following it
    fade: Annotated[float, Field(gt=0, le=1)] = 0.5  # what following one act later counts of following earlier
    shrink: Annotated[float, Field(ge=0)] = 0.0  # acts on an item before its shares are believed


class Markov(ItemToItem):
    name: ClassVar[str] = "markov"
    settings_type: ClassVar[type[Any]] = MarkovSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "acts": IntDistribution(1, 10),
        "decay": FloatDistribution(0.2, 1.0),
        "reach": IntDistribution(1, 5),
        "fade": FloatDistribution(0.2, 1.0),
        "shrink": FloatDistribution(0.0, 50.0),
    }
    settings: MarkovSettings

    def weigh(self, data: Interactions) -> sp.csr_matrix:
        after = transitions(data.items, data.starts, data.n_items, self.settings.reach, self.settings.fade)
        acts = np.bincount(data.items, minlength=data.n_items) + self.settings.shrink
        return (sp.diags_array(1.0 / np.maximum(acts, 1.0)) @ after).tocsr()
