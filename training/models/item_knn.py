"""ItemKNN: the cosine between the sets of people who acted on two items, shrunk for rare pairs (Sarwar et al. 2001,
https://doi.org/10.1145/371920.372071). Counts alone, cheap to fit; a new item has no neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import scipy.sparse as sp
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from training.cooccurrence import cosine, people_by_items
from training.models.contract import Interactions
from training.models.item_to_item import ItemToItem, ItemToItemSettings
from winnow.types import HISTORY


@dataclass(frozen=True, slots=True)
class ItemKnnSettings(ItemToItemSettings):
    """Newer acts say more of what comes next, so the history fades."""

    acts: Annotated[int, Field(ge=0, le=HISTORY)] = 20
    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    shrink: Annotated[float, Field(ge=0)] = 10.0  # people that a pair must have before its cosine is believed
    longest: Annotated[int, Field(ge=2)] = 500  # newest acts of one person that count: pairs grow with the square


class ItemKnn(ItemToItem):
    name: ClassVar[str] = "item_knn"
    settings_type: ClassVar[type[Any]] = ItemKnnSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "neighbours": IntDistribution(20, 500, log=True),
        "shrink": FloatDistribution(0.0, 100.0),
        "acts": IntDistribution(1, HISTORY),
        "decay": FloatDistribution(0.5, 1.0),
    }
    settings: ItemKnnSettings

    def weigh(self, data: Interactions) -> sp.csr_matrix:
        matrix = people_by_items(data.items, data.starts, data.n_items, self.settings.longest)
        return cosine(matrix, self.settings.shrink)
