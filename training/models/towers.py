"""What the models that are fitted by gradient and serve as towers have in common: fit, scores, save, load, serves.

A model says what its network is and what an epoch's batches are; a network says what its item vectors are, what reads
a history, and its loss. The loop is `training.loop`, windows are `training.batches`. Knows no particular network.

Shapes: b people, L = 50 places, d a vector's width, N items, m examples.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import TrainingBatches
from training.loop import Batch, Batches, History, LoopSettings, fit, seed_everything
from training.models import store
from training.models.contract import Interactions, Scores, Towers
from training.models.losses import Loss
from training.models.queries import scores_by
from training.models.store import Arrays
from training.models.ties import popular_first
from training.sequences import Sequences, Values
from winnow.acts import CODES, Acts
from winnow.features import Ints
from winnow.types import HISTORY, EventType, Floats

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from rich.progress import Progress

HELD_SHARE = 0.1  # of all people, at most, have their newest act held out
PROBE_BATCH = 64
ITEM_STD = 0.02  # of item vectors at the start: all scores near 0
USER = "user."  # before the names of the encoder's weights in a stored model


@dataclass(frozen=True, slots=True)
class TowerSettings:
    """How wide, how long and how fast; every model adds its own."""

    dim: int = 64  # of an item's vector
    batch: int = 32  # windows a step, of at most 50 targets each
    epochs: int = 30
    lr: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.0
    held: int = 500  # people whose newest act is held out and chooses the epoch, at most a tenth of all; 0: nobody
    patience: int = 5  # epochs without a better NDCG@10 of those before the fit stops; 0: never

    def loop(self, seed: int) -> LoopSettings:
        return LoopSettings(
            epochs=self.epochs,
            lr=self.lr,
            warmup_steps=self.warmup_steps,
            weight_decay=self.weight_decay,
            patience=self.patience,
            seed=seed,
        )


class Encoder(nn.Module):
    """Reads a history. `history` (b, L, d) item vectors, zero where `known` (b, L) is false, which is on the left;
    `ids` (b, W) what else is known of a person, (b, L, W) at every moment."""

    def after(self, history: Tensor, known: Tensor, ids: Tensor) -> Tensor:
        """(b, L, d) the person after each act; places that are not known may hold anything finite."""
        raise NotImplementedError  # what sets these networks apart: each says it in its own file

    def forward(self, history: Tensor, known: Tensor, ids: Tensor) -> Tensor:
        """(b, d) the person after the newest act."""
        return self.after(history, known, ids.unsqueeze(1))[:, -1]


class Reader(nn.Module):
    """An encoder with the inputs of a bundle's user tower (`training.models.contract.Towers`).

    Items without a vector are taken out of the history, as if they had never been; of nobody's history it makes the
    zero vector, which says nothing.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("places", torch.arange(HISTORY), persistent=False)

    def forward(self, ids: Tensor, history: Tensor, history_types: Tensor, history_values: Tensor) -> Tensor:
        known = (history_types != 0) & (history != 0).any(-1)
        order = (self.places + HISTORY * known.to(torch.int64)).argsort(1)  # the known to the right, in their order
        known = known.gather(1, order)
        history = history.gather(1, order.unsqueeze(-1).expand_as(history)) * known.unsqueeze(-1)
        return self.encoder(history, known, ids) * known[:, -1:]


class Network(nn.Module):
    """A network that learns from windows: the person after each act is to find the next one."""

    encoder: Encoder
    loss: Loss

    def items(self) -> Tensor:
        """(N, d) the items' vectors."""
        raise NotImplementedError  # what sets these networks apart: each says it in its own file

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss over the acts that have one before them; `batch` as `Sequences.windows` makes it."""
        items, inputs, targets = self.items(), batch["inputs"], batch["targets"]
        known = inputs >= 0
        people = self.encoder.after(rows_of(items, inputs), known, batch["ids"])
        return self.over(people, items, targets, known & (targets >= 0))

    def over(self, people: Tensor, items: Tensor, targets: Tensor, examples: Tensor) -> Tensor:
        """The loss of the places (b, L) that are examples; 0 when none is."""
        if not examples.any():
            return items.sum() * 0.0
        return self.loss(people[examples], items, targets[examples])


class ItemVectors(Network):
    """One vector per item, read in histories and looked for by them; nothing else is known of an item."""

    def __init__(self, encoder: Encoder, n_items: int, dim: int, loss: Loss) -> None:
        super().__init__()
        self.encoder, self.loss = encoder, loss
        self.table = nn.Parameter(torch.randn(n_items, dim) * ITEM_STD)

    def items(self) -> Tensor:
        return self.table


def rows_of(items: Tensor, rows: Tensor) -> Tensor:
    """The vectors of item rows of any shape; zero for row -1."""
    return F.embedding(rows.clamp(min=0), items) * (rows >= 0).unsqueeze(-1)


S = TypeVar("S", bound=TowerSettings)


class TowerModel(ABC, Generic[S]):
    """A model of the contract around a network; subclasses name it and make the network."""

    name: ClassVar[str]
    settings_type: ClassVar[type[Any]]
    space: ClassVar[Mapping[str, BaseDistribution]]

    def __init__(self, settings: S | None = None, seed: int = 0) -> None:
        self.settings: S = self.settings_type() if settings is None else settings
        self.seed = seed
        self.history = History()  # of the last fit

    @property
    def targets(self) -> int:
        """Acts that a window teaches, at most; it has 50 places, and the others are what was before."""
        return HISTORY

    @abstractmethod
    def network(self, data: Interactions) -> Network:
        """An untrained network for these people and items."""

    @abstractmethod
    def encoder(self) -> Encoder:
        """The part that reads histories, untrained; its shape follows from the settings and what `load` has read."""

    def batches(self, data: Interactions) -> Batches:
        """Windows of everyone's acts, each act but a person's first a target once an epoch."""
        return TrainingBatches(sequences_of(data), self.settings.batch, self.targets, self.seed)

    def fit(self, data: Interactions, progress: Progress | None = None) -> Self:
        known, probe = held_out(data, self.settings.held)
        self._popular = popular_first(data)
        seed_everything(self.seed)
        network = self.network(known)
        self.history = fit(
            network,
            self.batches(known),
            lambda module, batch: module(batch),
            self.settings.loop(self.seed),
            on_epoch=lambda _, trained: probe.ndcg(self.towers(trained), self._popular),
            progress=progress,
            title=self.name,
        )
        with torch.no_grad():
            self._towers = self.towers(network)
        return self

    def towers(self, network: nn.Module) -> Towers:
        """What a network, in eval mode, would serve; it may be trained on."""
        assert isinstance(network, Network)
        vectors = np.ascontiguousarray(network.items().detach().cpu().numpy(), np.float32)
        return Towers(vectors, Reader(copy.deepcopy(network.encoder).cpu()).eval())

    def scores(self, histories: Sequence[Ints]) -> Scores:
        return scores_by(self._towers, histories, self._popular)

    def serves(self) -> Towers:
        return self._towers

    def save(self, folder: Path) -> None:
        store.write(folder, self, self.arrays())

    @classmethod
    def load(cls, folder: Path) -> Self:
        settings, seed, arrays = store.read(folder, cls, "vectors", "popular")
        made = cls(settings, seed)
        try:
            made._towers, made._popular = made.restore(arrays), arrays["popular"]
        except (KeyError, RuntimeError) as wrong:  # torch's words for weights of another shape
            raise ValueError(f"{folder} holds no {cls.name} model of these settings: {wrong}") from wrong
        return made

    def arrays(self) -> Arrays:
        """All that `scores` and `serves` need."""
        kept: Arrays = {"vectors": self._towers.vectors, "popular": self._popular}
        return kept | stored(USER, self._towers.user.encoder)

    def restore(self, arrays: Arrays) -> Towers:
        """What `arrays` made."""
        return Towers(arrays["vectors"], Reader(loaded(self.encoder(), USER, arrays)).eval())


def stored(prefix: str, module: nn.Module) -> Arrays:
    """A module's weights as arrays, their names behind a prefix."""
    return {prefix + name: weight.cpu().numpy() for name, weight in module.state_dict().items()}


def loaded(module: Any, prefix: str, arrays: Arrays) -> Any:
    """The module with the weights that `stored` made arrays of."""
    own = {name.removeprefix(prefix): torch.from_numpy(w) for name, w in arrays.items() if name.startswith(prefix)}
    module.load_state_dict(own)
    return module


# ---------------------------------------------------------------------------------------------- what they learn from


def sequences_of(data: Interactions) -> Sequences:
    """The acts as training's windows read them, all of one type; the facts of a person are their side columns."""
    n, people = len(data.items), np.arange(data.n_users)
    acts = Acts(
        user=np.repeat(people, np.diff(data.starts)),
        item=data.items,
        at=data.at,
        value=data.values,
        type=np.full(n, CODES[EventType.CLICK], np.int8),
        quantity=np.ones(n, np.int64),
        log_position=np.arange(n),
    )
    facts = np.zeros((data.n_users, 0), np.int64) if data.user_side is None else data.user_side.ids
    return Sequences(acts, data.starts, facts, {}, Values(), np.arange(n))


@dataclass(frozen=True, eq=False)
class Probe:
    """People whose newest act is to be found from what they did before."""

    histories: list[Ints]
    wanted: Ints

    def ndcg(self, towers: Towers, popular: Scores) -> float | None:
        """NDCG@10 over the whole catalogue, seen items left out; None where nobody is asked."""
        if not len(self.wanted):
            return None
        places = []
        for start in range(0, len(self.wanted), PROBE_BATCH):
            rows = slice(start, start + PROBE_BATCH)
            scores = scores_by(towers, self.histories[rows], popular)
            for line, history, wanted in zip(scores, self.histories[rows], self.wanted[rows], strict=True):
                line[history] = -np.inf
                places.append(int((line > line[wanted]).sum()))
        place = np.asarray(places)
        return float(np.where(place < 10, 1 / np.log2(place + 2.0), 0.0).mean())


def held_out(data: Interactions, most: int) -> tuple[Interactions, Probe]:
    """The interactions without the newest act of some people, spread evenly over all whose newest act is of an item
    that is new to them, and what to ask of these."""
    last = data.starts[1:] - 1
    fit_for = [
        p for p in np.flatnonzero(np.diff(data.starts) > 1).tolist() if data.items[last[p]] not in data.of(p)[:-1]
    ]
    most = min(most, int(HELD_SHARE * data.n_users), len(fit_for))
    if not most:
        return data, Probe([], np.empty(0, np.int64))
    asked = np.asarray(fit_for)[np.linspace(0, len(fit_for) - 1, most).astype(np.int64)]
    keep = np.ones(len(data.items), np.bool_)
    keep[last[asked]] = False
    known = replace(
        data,
        items=data.items[keep],
        starts=np.concatenate([[0], np.cumsum(keep)])[data.starts],
        values=data.values[keep],
        at=data.at[keep],
    )
    return known, Probe([data.of(p)[:-1] for p in asked], data.items[last[asked]])


def counts_of(data: Interactions) -> Floats:
    """(N,) how often each item was acted on."""
    return np.bincount(data.items, minlength=data.n_items).astype(np.float32)
