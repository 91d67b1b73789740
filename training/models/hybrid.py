"""Hybrid factorisation: an item is the sum of embeddings of its id and its side features (LightFM's model,
https://arxiv.org/abs/1507.08439), so one that nobody has acted on has a vector as soon as anything is known of it.

A person, too, is a sum: of what their history brings, an image of the mean of its items' vectors, and of their traits. Each
embedding has one number more than `dim`, the feature's bias; a person's last number is therefore 1.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from torch import Tensor, nn

from training.models.contract import Interactions, Towers
from training.models.losses import Loss, loss_of
from training.models.store import Arrays
from training.models.towers import ITEM_STD, Encoder, Network, TowerModel, TowerSettings, counts_of, loaded, stored
from training.models.two_tower import mean_of
from winnow.encoding import Schema, Vocabulary


@dataclass(frozen=True, slots=True)
class HybridSettings(TowerSettings):
    """`negatives` are a step's; softmax draws none."""

    lr: float = 3e-3
    cold: float = 0.2  # share of items that a step knows by their features alone
    bare: float = 0.5  # share of windows that know nothing of the person but the history
    loss: Literal["softmax", "warp", "bpr"] = "softmax"
    negatives: int = 128


class Features(nn.Module):
    """`ids` (n, W), `numbers` (n, D) of a schema → (n, width): the sum over features, a feature's values averaged."""

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        rows = [len(schema.vocabularies[feature.vocabulary]) for feature in schema.categorical]
        self.tables = nn.ModuleList(nn.Embedding(count, width, padding_idx=0) for count in rows)
        self.columns: list[slice] = []
        for feature in schema.categorical:
            start = self.columns[-1].stop if self.columns else 0
            self.columns.append(slice(start, start + feature.slots))
        self.numbers = nn.Parameter(torch.zeros(len(schema.numeric), width))
        for made in self.tables:
            nn.init.normal_(made.weight, std=ITEM_STD)
            nn.init.zeros_(made.weight[0])

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        total = numbers @ self.numbers if len(self.numbers) else numbers.new_zeros(())
        for made, columns in zip(self.tables, self.columns, strict=True):
            total = total + mean_of(made, ids[:, columns], self.training)
        return total


class Person(Encoder):
    """The image of the mean of a history's vectors, and the sum of the traits' embeddings."""

    def __init__(self, dim: int, traits: Schema | None, bare: float) -> None:
        super().__init__()
        self.enter = nn.Linear(dim, dim)
        nn.init.eye_(self.enter.weight)
        self.traits = (
            Features(Schema(tuple(f.name for f in traits.categorical), traits.vocabularies), dim) if traits else None
        )
        self.bare = bare

    def after(self, history: Tensor, known: Tensor, ids: Tensor) -> Tensor:
        count = known.to(history.dtype).cumsum(1).clamp(min=1).unsqueeze(-1)
        person = self.enter(history[..., :-1].cumsum(1) / count.sqrt())
        if self.traits is not None:
            person = person + self.known_traits(ids[:, -1]).unsqueeze(1)
        return torch.cat([person, torch.ones_like(person[..., :1])], -1)

    def known_traits(self, ids: Tensor) -> Tensor:
        assert self.traits is not None
        found = self.traits(ids, ids.new_zeros((ids.shape[0], 0), dtype=torch.float32))
        if self.training:
            found = found * (torch.rand(len(ids), 1, device=ids.device) >= self.bare)
        return found


class HybridNetwork(Network):
    """Only items that somebody acted on are learnt from: to be no one's next act says nothing of a new one."""

    def __init__(self, encoder: Encoder, data: Interactions, settings: HybridSettings, loss: Loss) -> None:
        super().__init__()
        self.encoder, self.loss, self.cold = encoder, loss, settings.cold
        self.table = nn.Parameter(torch.randn(data.n_items, settings.dim + 1) * ITEM_STD)
        side = data.item_side
        self.features = Features(side.schema, settings.dim + 1) if side else None
        acted = torch.from_numpy(counts_of(data)) > 0
        self.register_buffer("acted", acted, persistent=False)
        self.register_buffer("taught", acted.nonzero()[:, 0], persistent=False)
        self.register_buffer("place", acted.cumsum(0) - 1, persistent=False)  # of an item among those taught
        if side:
            self.register_buffer("ids", torch.from_numpy(side.ids), persistent=False)
            self.register_buffer("numbers", torch.from_numpy(side.numbers), persistent=False)

    def items(self) -> Tensor:
        own = self.acted
        if self.features is None:
            return self.table * own.unsqueeze(1)
        if self.training:
            own = own & (torch.rand(own.shape, device=own.device) >= self.cold)
        return self.table * own.unsqueeze(1) + self.features(self.ids, self.numbers)

    def over(self, people: Tensor, items: Tensor, targets: Tensor, examples: Tensor) -> Tensor:
        if not examples.any():
            return items.sum() * 0.0
        return self.loss(people[examples], items[self.taught], self.place[targets[examples]])


class Hybrid(TowerModel[HybridSettings]):
    name: ClassVar[str] = "hybrid"
    settings_type: ClassVar[type[Any]] = HybridSettings
    space: ClassVar[Mapping[str, BaseDistribution]] = {
        "dim": CategoricalDistribution([32, 64, 128]),
        "lr": FloatDistribution(3e-4, 1e-2, log=True),
        "weight_decay": FloatDistribution(0.0, 0.02),  # the default, 0, is in it: a search begins there
        "cold": FloatDistribution(0.0, 0.5),
        "loss": CategoricalDistribution(["softmax", "warp", "bpr"]),
    }

    _item_schema: Schema | None = None
    _user_schema: Schema | None = None

    def encoder(self) -> Encoder:
        return Person(self.settings.dim, self._user_schema, self.settings.bare)

    def network(self, data: Interactions) -> Network:
        self._item_schema = data.item_side.schema if data.item_side else None
        self._user_schema = data.user_side.schema if data.user_side else None
        s = self.settings
        return HybridNetwork(self.encoder(), data, s, loss_of(s.loss, s.negatives))

    def towers(self, network: nn.Module) -> Towers:
        assert isinstance(network, HybridNetwork)
        made = super().towers(network)
        item = copy.deepcopy(network.features).cpu().eval() if network.features is not None else None
        return Towers(made.vectors, made.user, self._user_schema, item, self._item_schema)

    def arrays(self) -> Arrays:
        kept = super().arrays() | {"schemas": np.asarray(words(self._item_schema, self._user_schema))}
        return kept | (stored("item.", self._towers.item) if self._towers.item is not None else {})

    def restore(self, arrays: Arrays) -> Towers:
        self._item_schema, self._user_schema = schemas(str(arrays["schemas"]))
        made = super().restore(arrays)
        item = None
        if self._item_schema is not None:
            item = loaded(Features(self._item_schema, self.settings.dim + 1), "item.", arrays).eval()
        return Towers(made.vectors, made.user, self._user_schema, item, self._item_schema)


def words(*several: Schema | None) -> str:
    """Schemas with their vocabularies as JSON."""
    documents = [
        schema and {**schema.to_json(), "vocabularies": {n: v.to_json() for n, v in schema.vocabularies.items()}}
        for schema in several
    ]
    return json.dumps(documents, ensure_ascii=False)


def schemas(document: str) -> list[Schema | None]:
    """What `words` wrote."""
    return [
        one
        and Schema.from_json(one, {n: Vocabulary(n, v["values"], v["buckets"]) for n, v in one["vocabularies"].items()})
        for one in json.loads(document)
    ]
