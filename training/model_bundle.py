"""From any model that keeps the contract to a sealed retrieval bundle (docs/bundles.md).

`Towers` become the two graphs and the vectors. A `Table` takes the place of what goes together; its towers are one
number wide and always 0, which serving reads as nothing to propose. Knows no particular model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import nn

from training.dataset import Dataset
from training.loop import History
from training.models.contract import Model, Table, Towers
from training.models.served import Always, KnownOrNew, LookUp
from training.retrieval_bundle import Trained, write_bundle
from training.sequences import Sequences, Values, person_facts
from training.split import Mask
from winnow.artifacts import Bundle
from winnow.encoding import Schema, Vocabulary
from winnow.features import ItemView

ITEM_ID = "item_id"
BY_ID = (ITEM_ID, "item_has_price")  # no graph without numbers: servers of models want one column at least
ANYBODY = ("context_surface",)
NEIGHBOURS = 100  # entries per item of the tables that are counted beside the model


class Pair(nn.Module):
    """What a bundle calls its towers."""

    def __init__(self, item: nn.Module, user: nn.Module) -> None:
        super().__init__()
        self.item, self.user = item, user


@dataclass(frozen=True, eq=False)
class Graphs:
    """Both towers with the schemas that encode what they read."""

    towers: Pair
    item_schema: Schema
    user_schema: Schema


def write_model_bundle(
    dataset: Dataset, known: Mask, model: Model, target: Path, *, metrics: Mapping[str, float] | None = None
) -> Bundle:
    """The bundle `target/<its id>` of a model that was fitted on the acts `known`; ValueError where its graphs do not
    compute what it does."""
    served = model.serves()
    table = served if isinstance(served, Table) else None
    towers = silent(len(dataset.items)) if isinstance(served, Table) else served
    graphs = graphs_of(dataset, towers)
    item_ids, item_numbers = graphs.item_schema.encode([ItemView(item) for item in dataset.items])
    values = Values.fit(dataset.acts.value[known])
    every = Sequences.of(dataset, graphs.user_schema, person_facts(dataset, graphs.user_schema), values)
    trained = Trained(
        graphs.towers,
        graphs.item_schema,
        graphs.user_schema,
        item_ids,
        item_numbers,
        every,
        every.restricted(known),
        History(),
    )
    about = {"name": model.name, "settings": asdict(model.settings)}
    return write_bundle(
        dataset,
        trained,
        target,
        neighbours=NEIGHBOURS,
        metrics=metrics or {},
        seed=model.seed,
        table=table,
        model=about,
    )


def silent(n_items: int) -> Towers:
    """Towers with nothing to say."""
    return Towers(np.zeros((n_items, 1), np.float32), Always(0.0))


def graphs_of(dataset: Dataset, towers: Towers) -> Graphs:
    """An item's vector is the model's own, by id; that of a new item is the zero vector, unless the model makes one."""
    vocabulary = Vocabulary(ITEM_ID, dataset.item_ids.tolist())
    user_schema = towers.user_schema or Schema(ANYBODY, {"surface": Vocabulary("surface", ())})
    if towers.item is None or towers.item_schema is None:
        known = LookUp(vocabulary, towers.vectors)
        return Graphs(Pair(known, towers.user), Schema(BY_ID, {ITEM_ID: vocabulary}), user_schema)
    content = towers.item_schema
    item_schema = Schema((ITEM_ID, *content.names), {**content.vocabularies, ITEM_ID: vocabulary}, content.scales)
    item = KnownOrNew(LookUp(vocabulary, towers.vectors), towers.item, unknown=1 + vocabulary.buckets)
    return Graphs(Pair(item, towers.user), item_schema, user_schema)
