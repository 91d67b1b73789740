"""The two-tower retrieval model: an item tower over attributes, a user tower over a history of item vectors.

A person's history enters as the item tower's *output*, so an item added a minute ago works in histories as well as in
the index. One causal pass over a sequence yields a person vector after every act, so each position of a training
sequence is an example (SASRec, https://arxiv.org/abs/1808.09781). Distances between acts enter as a bias learnt per
head, not as absolute places: a person vector at place 20 of a training sequence is the one that serving computes at
place 49.

Shapes: b sequences, L = 50 places, d = 128, n items, m examples (places of a batch that have a target).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.fusion import Fusion
from training.models.tower_graphs import BLOCKED, save_item, save_user
from winnow.encoding import Schema
from winnow.types import HISTORY

DIM = 128
HOTTEST, COLDEST = 0.02, 0.5  # bounds of the temperature
USER_ID, ITEM_ID = "user_id", "item_id"
METADATA, IMAGE = "metadata", "image"
MODALITY_OF = {ITEM_ID: "id", "item_tokens": "text"}
MODALITIES = (*MODALITY_OF.values(), METADATA)


@dataclass(frozen=True, slots=True)
class TowerSizes:
    """Shape of the network and how it is regularised."""

    dim: int = DIM
    heads: int = 4
    layers: int = 1  # self-attention blocks below the pooling
    hidden: int = 256
    dropout: float = 0.2
    cold_items: float = 0.1  # share of items whose id is hidden behind its hash bucket while training
    cold_users: float = 0.8  # the same for people; high, so that the tower lives off the history
    bare_users: float = 0.3  # share of the sequences that know nothing but the history: no id, no traits, no moment
    temperature: float = 0.07  # to start from
    mask_seen: bool = True  # items of a person's own window are no negatives for them
    fusion: str = ""  # how id, text and metadata of an item become one (`training.models.fusion.MIXES`); "": their sum

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class ItemTower(nn.Module):
    """`ids` (n, W), `numbers` (n, D) → (n, d), L2 norm 1. Values of one feature are averaged."""

    def __init__(self, schema: Schema, sizes: TowerSizes) -> None:
        super().__init__()
        self.tables = nn.ModuleList()
        self.columns: list[slice] = []
        start = 0
        for feature in schema.categorical:
            rows = len(schema.vocabularies[feature.vocabulary])
            self.tables.append(
                _table(rows, sizes.dim, std=1 / math.sqrt(sizes.dim) if feature.name == ITEM_ID else 0.02)
            )
            self.columns.append(slice(start, start + feature.slots))
            start += feature.slots
        self.numbers = nn.Linear(len(schema.numeric), sizes.dim)
        self.mix = nn.Sequential(nn.Linear(sizes.dim, sizes.hidden), nn.GELU(), nn.Linear(sizes.hidden, sizes.dim))
        nn.init.zeros_(self.mix[2].weight)
        nn.init.zeros_(self.mix[2].bias)
        nn.init.normal_(self.numbers.weight, std=0.02)


class SummedItemTower(ItemTower):
    """Features are summed."""

    def forward(self, ids: Tensor, numbers: Tensor) -> Tensor:
        x = self.numbers(numbers)
        for table, columns in zip(self.tables, self.columns, strict=True):
            x = x + mean_of(table, ids[:, columns], self.training)
        return F.normalize(x + self.mix(x), dim=-1)

    def draw(self, file: Path) -> None:
        save_item(self, file)


class FusedItemTower(ItemTower):
    """The id, the words, the rest and the image are modalities that are mixed, and may be missing: an id that training did
    not know, an item without words, one of no category and brand, or one whose `image` (n, W) is zeros.

    `centre` (W,) is the mean of where images' vectors point; without it the tower reads no images."""

    centre: Tensor
    spread: Tensor

    def __init__(self, schema: Schema, sizes: TowerSizes, centre: Tensor | None = None) -> None:
        super().__init__(schema, sizes)
        self.kinds = [MODALITY_OF.get(feature.name, METADATA) for feature in schema.categorical]
        self.known = [
            schema.vocabularies[f.vocabulary].buckets if f.name == ITEM_ID else 0 for f in schema.categorical
        ]  # rows up to here say nothing of this very item
        self.names = MODALITIES if centre is None else (*MODALITIES, IMAGE)
        widths = dict.fromkeys(MODALITIES, sizes.dim) | ({} if centre is None else {IMAGE: len(centre)})
        self.fusion = Fusion(widths, sizes.dim, sizes.fusion)
        if centre is not None:
            self.register_buffer("centre", centre)
            self.register_buffer("spread", ((1 - centre @ centre).clamp(min=1e-3) / len(centre)).sqrt())

    def forward(self, ids: Tensor, numbers: Tensor, image: Tensor | None = None) -> Tensor:
        vectors = dict.fromkeys(MODALITIES, torch.zeros_like(self.numbers(numbers))) | {METADATA: self.numbers(numbers)}
        present = dict.fromkeys(MODALITIES, torch.zeros_like(ids[:, 0], dtype=torch.bool))
        for kind, known, table, columns in zip(self.kinds, self.known, self.tables, self.columns, strict=True):
            vectors[kind] = vectors[kind] + mean_of(table, ids[:, columns], self.training)
            present[kind] = present[kind] | (ids[:, columns] > known).any(1)
        if image is not None:
            vectors[IMAGE] = (F.normalize(image, dim=1) - self.centre) / self.spread
            present[IMAGE] = (image != 0).any(1)
        x = self.fusion(vectors, torch.stack([present[name] for name in self.names], dim=1))
        return F.normalize(x + self.mix(x), dim=-1)


def item_tower(schema: Schema, sizes: TowerSizes, centre: Tensor | None = None) -> ItemTower:
    """`centre` of the items' images, where there are any: only a tower that fuses reads them."""
    return FusedItemTower(schema, sizes, centre) if sizes.fusion else SummedItemTower(schema, sizes)


def mean_of(table: nn.Embedding, ids: Tensor, training: bool) -> Tensor:
    """(n, slots) → (n, d): the mean of the embeddings that are not missing."""
    if ids.shape[1] == 1:
        return table(ids[:, 0])
    if training:  # one pass over memory, but a loop in ONNX
        return F.embedding_bag(ids, table.weight, mode="mean", padding_idx=0)
    return table(ids).sum(1) / (ids != 0).sum(1, keepdim=True).clamp(min=1)


class Attention(nn.Module):
    """Causal multi-head attention whose weights also depend on the distance between two acts, (b, L, d) → (b, L, d)."""

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.heads, self.width = sizes.heads, sizes.dim // sizes.heads
        self.query = nn.Linear(sizes.dim, sizes.dim)
        self.key = nn.Linear(sizes.dim, sizes.dim)
        self.value = nn.Linear(sizes.dim, sizes.dim)
        self.out = nn.Linear(sizes.dim, sizes.dim)
        self.distance = nn.Parameter(torch.zeros(sizes.heads, HISTORY))
        self.dropout = nn.Dropout(sizes.dropout)
        place = torch.arange(HISTORY)
        self.register_buffer("distances", (place[:, None] - place[None, :]).clamp(min=0), persistent=False)

    def forward(self, asking: Tensor, x: Tensor, blocked: Tensor) -> Tensor:
        """`asking` (b, Q, d) are the newest Q of the L places; `blocked` (b, 1, Q, L) is added to the weights."""
        asked = asking.shape[1]
        bias = self.distance[:, self.distances[-asked:]]  # (heads, Q, L)
        q, k, v = self._split(self.query(asking)), self._split(self.key(x)), self._split(self.value(x))
        weights = q @ k.transpose(-1, -2) / math.sqrt(self.width) + bias + blocked
        mixed = self.dropout(weights.softmax(-1)) @ v
        return self.out(mixed.transpose(1, 2).reshape(asking.shape[0], asked, -1))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.heads, self.width).transpose(1, 2)


class Block(nn.Module):
    """Attention and a feed-forward net, each added to what it reads (pre-norm)."""

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(sizes.dim), nn.LayerNorm(sizes.dim)
        self.attention = Attention(sizes)
        self.feed = nn.Sequential(
            nn.Linear(sizes.dim, sizes.hidden), nn.GELU(), nn.Dropout(sizes.dropout), nn.Linear(sizes.hidden, sizes.dim)
        )
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor, blocked: Tensor) -> Tensor:
        normed = self.before(x)
        x = x + self.dropout(self.attention(normed, normed, blocked))
        return x + self.dropout(self.feed(self.between(x)))


class UserTower(nn.Module):
    """A history of item vectors, and what else is known of a person, → (b, d), L2 norm 1."""

    def __init__(self, schema: Schema, event_types: int, sizes: TowerSizes) -> None:
        super().__init__()
        self.enter = nn.Linear(sizes.dim, sizes.dim)
        self.types = nn.Embedding(event_types + 1, sizes.dim)  # row 0: the start, before any act
        self.value = nn.Parameter(torch.zeros(sizes.dim))
        self.first = nn.LayerNorm(sizes.dim)
        self.dropout = nn.Dropout(sizes.dropout)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.last = nn.LayerNorm(sizes.dim)
        self.pool = Attention(sizes)
        self.mix = nn.Sequential(nn.Linear(2 * sizes.dim, sizes.hidden), nn.GELU(), nn.Linear(sizes.hidden, sizes.dim))
        self.tables = nn.ModuleList(
            _table(len(schema.vocabularies[f.vocabulary]), sizes.dim, std=0.0) for f in schema.categorical
        )
        nn.init.normal_(self.types.weight, std=0.02)
        causal = torch.full((HISTORY, HISTORY), BLOCKED).triu(1)
        self.register_buffer("causal", causal, persistent=False)
        self.register_buffer("others", 1.0 - torch.eye(HISTORY), persistent=False)

    def forward(self, ids: Tensor, history: Tensor, history_types: Tensor, history_values: Tensor) -> Tensor:
        """What serving calls: the vector after the newest act (docs/bundles.md)."""
        return self.after(ids.unsqueeze(1), history, history_types, history_values)[:, 0]

    def draw(self, file: Path) -> None:
        save_user(self, file)

    def after(self, ids: Tensor, history: Tensor, types: Tensor, values: Tensor) -> Tensor:
        """The vectors after the newest Q acts, (b, Q, d); `ids` (b, Q, W) are the facts at each of these moments."""
        asked = ids.shape[1]
        x = self.enter(history * math.sqrt(history.shape[-1])) + self.types(types) + values.unsqueeze(-1) * self.value
        x = self.dropout(self.first(x))
        padding = (types == 0)[:, None, None, :] * self.others * BLOCKED  # an empty history still sees its start
        blocked = self.causal + padding
        for block in self.blocks:
            x = block(x, blocked)
        x = self.last(x)
        newest = x[:, -asked:]
        pooled = self.pool(newest, x, blocked[:, :, -asked:])
        return F.normalize(self.mix(torch.cat([newest, pooled], -1)) + self.facts(ids), dim=-1)

    def facts(self, ids: Tensor) -> Tensor:
        """(…, W) → (…, d): the sum of the embeddings; a missing value adds nothing."""
        total = self.tables[0](ids[..., 0])
        for column, table in enumerate(self.tables[1:], start=1):
            total = total + table(ids[..., column])
        return total


class TwoTower(nn.Module):
    """Both towers and the loss. The catalogue's features are buffers, so a batch names items by row."""

    def __init__(
        self,
        item_schema: Schema,
        user_schema: Schema,
        sizes: TowerSizes,
        *,
        event_types: int,
        item_ids: Tensor,  # (N, W) int64
        item_numbers: Tensor,  # (N, D)
        item_buckets: Tensor,  # (N,) row of the id's hash bucket
        user_buckets: Tensor,  # (rows of the user vocabulary,) the same for people
        item_counts: Tensor,  # (N,) times an item is a target in one epoch
        item_images: Tensor | None = None,  # (N, W), zeros where an item has none
        image_centre: Tensor | None = None,  # (W,) with them
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.item = item_tower(item_schema, sizes, image_centre)
        self.user = UserTower(user_schema, event_types, sizes)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(sizes.temperature)))
        self.id_column = _column(item_schema, ITEM_ID)
        self.user_column = _column(user_schema, USER_ID)
        self.register_buffer("item_ids", item_ids, persistent=False)
        self.register_buffer("item_numbers", item_numbers, persistent=False)
        self.register_buffer("item_images", item_images, persistent=False)
        self.register_buffer("item_buckets", item_buckets, persistent=False)
        self.register_buffer("user_buckets", user_buckets, persistent=False)
        self.register_buffer("share", item_counts / item_counts.sum().clamp(min=1), persistent=False)

    @property
    def scale(self) -> Tensor:
        """1 / temperature, clamped."""
        return self.log_scale.clamp(-math.log(COLDEST), -math.log(HOTTEST)).exp()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch.

        `inputs` (b, L) rows of the acts before each target, -1 for padding; `targets` (b, L), -1 where there is none;
        `types`, `values` (b, L) of the inputs; `ids` (b, L, W) facts of the person at each moment.
        """
        inputs, targets = batch["inputs"], batch["targets"]
        rows, place = torch.unique(torch.cat([inputs, targets], 1), return_inverse=True)
        vectors = self.vectors_of(rows)
        history = vectors[place[:, : inputs.shape[1]]]
        people = self.user.after(self.hide_users(batch["ids"]), history, batch["types"], batch["values"])
        examples = targets >= 0
        wanted, column = torch.unique(targets[examples], return_inverse=True)
        window = windows_of(rows, place, wanted) if self.sizes.mask_seen else None
        columns = vectors[torch.searchsorted(rows, wanted)]
        return sampled_softmax(
            people[examples] * self.scale,
            columns,
            column,
            log_inclusion(self.share[wanted], int(examples.sum())),
            None if window is None else window[examples.nonzero()[:, 0]],
        )

    def vectors_of(self, rows: Tensor) -> Tensor:
        """Item vectors of catalogue rows; row -1 is the zero vector. Some ids hide behind their bucket in training."""
        ids = self.item_ids[rows.clamp(min=0)]
        if self.training and self.sizes.cold_items:
            hidden = torch.rand(len(rows), device=rows.device) < self.sizes.cold_items
            column = torch.where(hidden, self.item_buckets[rows.clamp(min=0)], ids[:, self.id_column])
            ids = torch.cat([ids[:, : self.id_column], column.unsqueeze(1), ids[:, self.id_column + 1 :]], 1)
        known = rows.clamp(min=0)
        image = () if self.item_images is None else (self.item_images[known].float(),)
        return self.item(ids, self.item_numbers[known], *image) * (rows >= 0).unsqueeze(1)

    def hide_users(self, ids: Tensor) -> Tensor:
        """A person is a stranger (their bucket) or anonymous (nothing) in a share of the sequences, or all facts lack."""
        if not self.training:
            return ids
        own, draw = ids[..., self.user_column], torch.rand(len(ids), 1, device=ids.device)
        own = torch.where(draw < self.sizes.cold_users, self.user_buckets[own], own)
        own = torch.where(draw < self.sizes.cold_users / 2, torch.zeros_like(own), own)
        ids = torch.cat([ids[..., : self.user_column], own.unsqueeze(-1), ids[..., self.user_column + 1 :]], -1)
        return ids * (torch.rand(len(ids), 1, 1, device=ids.device) >= self.sizes.bare_users)


def log_inclusion(share: Tensor, draws: int) -> Tensor:
    """log of the probability that an item with this share of all targets is among `draws` of them."""
    return torch.log((-torch.expm1(draws * torch.log1p(-share.clamp(max=1 - 1e-6)))).clamp(min=1e-12))


def sampled_softmax(people: Tensor, items: Tensor, column: Tensor, log_q: Tensor, seen: Tensor | None) -> Tensor:
    """Mean cross entropy of the targets against the distinct items of the batch.

    `people` (m, d) scaled by 1 / temperature, `items` (c, d), `column` (m,) the target's item, `log_q` (c,) log
    probability that an item is in a batch, `seen` (m, c) items that are no negatives for a row. A negative stands for
    1 / q of its kind; the target itself is always there, so it is not corrected (https://arxiv.org/abs/2507.09331).
    """
    logits = torch.addmm(-log_q, people, items.T).float()
    if seen is not None:
        logits = logits.masked_fill_(seen, BLOCKED)
    target = (people * items[column]).sum(1, keepdim=True).float()
    return F.cross_entropy(logits.scatter_(1, column.unsqueeze(1), target), column)


def windows_of(rows: Tensor, place: Tensor, wanted: Tensor) -> Tensor:
    """(b, c) bool: which wanted items occur in each sequence. `rows[place]` are the items of the sequences (b, 2L)."""
    found = torch.zeros(place.shape[0], len(rows), dtype=torch.bool, device=rows.device)
    found.scatter_(1, place, True)
    return found[:, torch.searchsorted(rows, wanted)]


def _table(rows: int, dim: int, std: float) -> nn.Embedding:
    """An embedding whose row 0 (missing) is zero and stays so."""
    table = nn.Embedding(rows, dim, padding_idx=0)
    nn.init.normal_(table.weight, std=std)
    with torch.no_grad():
        table.weight[0].zero_()
    return table


def _column(schema: Schema, name: str) -> int:
    column = 0
    for feature in schema.categorical:
        if feature.name == name:
            return column
        column += feature.slots
    raise KeyError(name)
