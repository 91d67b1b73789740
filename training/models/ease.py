"""EASE: a linear model of items on items in closed form (Steck 2019, https://arxiv.org/abs/1905.03375).

Inverts an (N, N) matrix: seconds for some thousand items, minutes and 3 GB for 20,000. Only what goes *with* an item is
served, not what speaks against it. A new item has no row until the next fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from training.cooccurrence import people_by_items
from training.models.contract import Interactions
from training.models.item_to_item import ItemToItem, ItemToItemSettings
from winnow.errors import InvalidArgument
from winnow.types import HISTORY

ALL_ACTS = 10**9  # of a person count
MOST_ITEMS = 30_000  # 7 GB for the matrix in double precision


@dataclass(frozen=True, slots=True)
class EaseSettings(ItemToItemSettings):
    """`ridge` is λ of the paper. Newer acts say more of what comes next, so the history fades."""

    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    ridge: Annotated[float, Field(gt=0)] = 500.0  # the best of 100, 250, 500 and 1000 on ml-1m


class Ease(ItemToItem):
    name: ClassVar[str] = "ease"
    settings_type: ClassVar[type[Any]] = EaseSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "ridge": FloatDistribution(10.0, 5_000.0, log=True),
        "neighbours": IntDistribution(20, 1_000, log=True),
        "acts": IntDistribution(1, HISTORY),
        "decay": FloatDistribution(0.5, 1.0),
    }
    settings: EaseSettings

    def weigh(self, data: Interactions) -> npt.NDArray[np.float64]:
        if data.n_items > MOST_ITEMS:
            raise InvalidArgument(f"EASE takes at most {MOST_ITEMS} items, there are {data.n_items}", field="model")
        matrix = people_by_items(data.items, data.starts, data.n_items, longest=ALL_ACTS)
        gram = (matrix.T @ matrix).toarray().astype(np.float64)
        gram[np.diag_indices(data.n_items)] += self.settings.ridge
        inverse = np.linalg.inv(gram)
        weights: npt.NDArray[np.float64] = inverse / -np.diag(inverse)
        weights[np.diag_indices(data.n_items)] = 0.0
        return weights
