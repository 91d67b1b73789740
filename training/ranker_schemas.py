"""Which features the ranker reads, with vocabularies and scales from its training moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from training.dataset import Dataset
from training.moments import Moment
from winnow.artifacts import Bundle
from winnow.encoding import Schema, Vocabulary, fit_scales, fit_vocabularies
from winnow.features import CLOCK, FEATURES, NO_STATS, RANKER_ITEM, RANKER_USER, ItemStats, ItemView, UserView

ALWAYS = frozenset({"item_id", "item_log_count", "user_id", "user_log_events"})  # no side is ever without columns
LEAST_ACTS = 3  # an item acted on less often shares its embedding with others like it


@dataclass(frozen=True)
class RankerSchemas:
    """Of people and of items; they share one set of vocabularies."""

    user: Schema
    item: Schema


def fit_schemas(dataset: Dataset, items: Sequence[ItemView], rank: Sequence[Moment], fitted_on: int) -> RankerSchemas:
    """Schemas from items as they stood at the cut and people as they were at (some of) the moments `rank`.

    A feature that never varies there is left out: it teaches nothing, and what serving met of it would be noise.
    """
    user_names = [name for name in RANKER_USER if dataset.clock == "real" or name not in CLOCK]
    some = rank if len(rank) <= fitted_on else [rank[n * len(rank) // fitted_on] for n in range(fitted_on)]
    found = {item.item_id: item for item in dataset.items}
    people = [UserView(moment.state(dataset), moment.context, found.get) for moment in some]
    vocabularies = fit_vocabularies((*RANKER_ITEM, *user_names), items, people)
    known = {
        "item_id": sorted(view.item.item_id for view in items if view.stats.count >= LEAST_ACTS),
        "user_id": user_ids(dataset, rank),
    }
    vocabularies |= {name: Vocabulary(name, values, vocabularies[name].buckets) for name, values in known.items()}
    user = varying(user_names, vocabularies, people, "user")
    item = varying(RANKER_ITEM, vocabularies, items, "item")
    read = {FEATURES[name].vocabulary for name in (*user.names, *item.names)}
    kept = {name: vocabulary for name, vocabulary in vocabularies.items() if name in read}
    return RankerSchemas(Schema(user.names, kept, user.scales), Schema(item.names, kept, item.scales))


def item_views(dataset: Dataset, bundle: Bundle) -> list[ItemView]:
    """Every item of the data set with the statistics that the retrieval bundle ends at."""
    columns = pq.read_table(bundle.file("stats.parquet")).to_pydict()
    rows = zip(columns["count"], columns["recent"], columns["mean_value"], strict=True)
    stats = dict(zip(columns["item_id"], (ItemStats(*row) for row in rows), strict=True))
    at = float(bundle.facts["stats_at"])
    return [ItemView(item, stats.get(item.item_id, NO_STATS), at) for item in dataset.items]


def user_ids(dataset: Dataset, rank: Sequence[Moment]) -> list[str]:
    owners = {dataset.log.owner(moment.person, moment.before) for moment in rank}
    return sorted({dataset.people[owner].user_id for owner in owners} - {""})


def varying(names: Sequence[str], vocabularies: Mapping[str, Vocabulary], views: Sequence[Any], of: str) -> Schema:
    """The schema of the features that have more than one value among the views."""
    whole = Schema(tuple(names), vocabularies, fit_scales(names, views, of))
    ids, numbers = whole.encode(views)
    varies = {f.name: np.ptp(numbers[:, n]) > 0 for n, f in enumerate(whole.numeric)}
    column = 0
    for feature in whole.categorical:
        values = ids[:, column : column + feature.slots]
        varies[feature.name] = np.ptp(values, axis=0).any()
        column += feature.slots
    kept = tuple(name for name in names if varies[name] or name in ALWAYS)
    return Schema(kept, vocabularies, {name: scale for name, scale in whole.scales.items() if name in kept})
