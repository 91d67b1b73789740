"""The table behind the source `item_to_item` of a bundle of towers: what goes with what, and how a history reads it.

EASE (`training.models.ease`) in place of a count, where its inversion takes seconds: it knows that two items which go
with everything say nothing of each other. Larger catalogues keep the cosine. How the table is served is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.cooccurrence import Neighbours
from training.dataset import Dataset
from training.interactions import interactions_of
from training.measures import track
from training.models.contract import Table
from training.models.ease import Ease, EaseSettings
from training.questions import Question, questions
from training.rankings import EvaluationSettings, places_by
from training.split import Mask, Split

MADE_BY = "ease"  # among the facts of a table that is made again with every refresh
MOST_ITEMS = 8_000  # half a minute and 2 GB for the inversion
DECAYS = (
    1.0,
    0.9,
    0.8,
    0.7,
)  # where acts come in baskets the whole history counts, where they come in order the newest
PEOPLE = 1_000  # asked at most to choose among them


def companions(dataset: Dataset, parts: Split, neighbours: int) -> Table | None:
    """`neighbours` entries per item from the acts of `parts.train`, faded as answers the acts of `parts.calibrate` best;
    None where the catalogue is too large."""
    if len(dataset.items) > MOST_ITEMS:
        return None
    model = fitted(dataset, parts.train, neighbours)
    asked = questions(dataset, replace(parts, test=parts.calibrate), PEOPLE)
    model.settings = replace(model.settings, decay=best_decay(model, dataset, asked))
    return model.serves()


def companions_again(dataset: Dataset, known: Mask, neighbours: int) -> Neighbours:
    """The same table of other acts; how it is read stays."""
    return fitted(dataset, known, neighbours).serves().neighbours


def fitted(dataset: Dataset, known: Mask, neighbours: int) -> Ease:
    return Ease(EaseSettings(neighbours=neighbours)).fit(interactions_of(dataset, known))


def best_decay(model: Ease, dataset: Dataset, asked: Sequence[Question]) -> float:
    """The one of `DECAYS` by which the model finds best what people had not acted on before; the paper's, 1, where nobody
    can be asked."""
    if not asked:
        return DECAYS[0]
    worth = {}
    for decay in DECAYS:
        model.settings = replace(model.settings, decay=decay)
        places = places_by(model, dataset, asked, EvaluationSettings(), repeat=False)
        found = track(asked, places, "new", seen=False)["new_ndcg@10"]
        worth[decay] = 0.0 if np.isnan(found).all() else float(np.nanmean(found))
    return max(worth, key=lambda decay: worth[decay])
