"""A made-up shop of any size, for the benchmark and the tests. Not data: no figure on quality may come from here.

Items fall into clusters that share a category, words and a price level; popularity within a cluster is skewed. A
person likes three clusters, one of them most. Every third act or so goes to the fixed successor of the item before,
so that order says something. The same sizes and seed give the same shop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from training.data.source import Source, one
from winnow.errors import InvalidArgument

Ints = npt.NDArray[np.int64]

START_S = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
SPAN_S = 180 * 86_400
PER_CLUSTER = 50  # items
LIKED = np.array([0.6, 0.3, 0.1])  # shares of a person's clusters
FOLLOWED = 0.35  # share of acts on the successor of the item before
KINDS = np.array(["click", "cart", "purchase", "rating", "dismiss"])
SHARES = np.array([0.80, 0.08, 0.06, 0.04, 0.02])
SKEW = 2.5  # of popularity: an item's place in its cluster is a uniform number to this power
ADJECTIVES = ("Plain", "Quiet", "Bright", "Northern", "Folding", "Little", "Heavy", "Amber", "Round", "Woven")
NOUNS = ("Lamp", "Kettle", "Chair", "Blanket", "Clock", "Basket", "Mirror", "Bottle", "Shelf", "Tray", "Rug", "Stool")


@dataclass(frozen=True)
class World:
    """Sizes and seed of a shop."""

    items: int
    people: int
    events: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("items", "people", "events"):
            if not 1 <= getattr(self, name) <= 100_000_000:
                raise InvalidArgument("must be between 1 and 100000000", field=name)

    @property
    def clusters(self) -> int:
        return max(1, self.items // PER_CLUSTER)

    def cluster_of(self, item: Ints) -> Ints:
        return item * self.clusters // self.items

    def first_of(self, cluster: Ints) -> Ints:
        """The first item of a cluster; clusters are runs of items."""
        return -(-cluster * self.items // self.clusters)


def source(arguments: str = "") -> Source:
    """`items[,people[,events[,seed]]]`, by default a catalogue of 100,000, five items a person, ten events an item."""
    try:
        given = [int(number) for number in arguments.split(",")] if arguments else [100_000]
        items, *others = given
        return generate(World(items, *(others + [max(items // 5, 1), items * 10, 0][len(others) :])))
    except (ValueError, TypeError) as wrong:
        raise InvalidArgument("generated:ITEMS[,PEOPLE[,EVENTS[,SEED]]] takes whole numbers", field="source") from wrong


def generate(world: World) -> Source:
    sizes = f"{world.items}-{world.people}-{world.events}-{world.seed}"
    return Source(
        name=f"generated-{sizes}",
        clock="real",
        protocol="leave-one-out",
        positive_value=4.0,
        digest=f"generated/{sizes}/1",
        events=lambda: events(world),
        items=lambda: items(world),
        users=lambda: users(world),
    )


def items(world: World) -> Iterator[pl.DataFrame]:
    random = np.random.default_rng((world.seed, 1))
    item = np.arange(world.items)
    cluster = world.cluster_of(item)
    adjective, noun = np.array(ADJECTIVES), np.array(NOUNS)
    return one(
        pl.DataFrame({"item": item, "cluster": cluster, "brand": random.integers(0, 200, world.items)})
        .with_columns(
            pl.Series("adjective", adjective[random.integers(0, len(adjective), world.items)]),
            pl.Series("noun", noun[cluster % len(noun)]),
            pl.Series("price", prices(world)),
            pl.Series("created_at", START_S - random.integers(0, 365, world.items) * 86_400),
        )
        .select(
            pl.format("i{}", "item").alias("item_id"),
            pl.format("{} {} {}", "adjective", "noun", "item").alias("title"),
            pl.concat_list(pl.col("noun").str.to_lowercase(), pl.format("cluster-{}", "cluster")).alias("categories"),
            pl.format("Brand {}", "brand").alias("brand"),
            "price",
            pl.lit("EUR").alias("currency"),
            "created_at",
        )
    )


def prices(world: World) -> npt.NDArray[np.float64]:
    """(items,) EUR: a level per cluster and a spread within it."""
    random = np.random.default_rng((world.seed, 2))
    level = random.normal(3.0, 0.8, world.clusters)[world.cluster_of(np.arange(world.items))]
    return np.asarray(np.round(np.exp(level + random.normal(0, 0.3, world.items)), 2), np.float64)


def users(world: World) -> Iterator[pl.DataFrame]:
    random = np.random.default_rng((world.seed, 3))
    country = np.array(["DE", "FR", "GB", "IT", "NL"])[random.integers(0, 5, world.people)]
    person = pl.DataFrame({"person": np.arange(world.people), "traits.country": country})
    return one(person.select(pl.format("u{}", "person").alias("user_id"), "traits.country"))


def events(world: World) -> Iterator[pl.DataFrame]:
    """In the order of time; event ids count from 0."""
    random = np.random.default_rng((world.seed, 4))
    person, item, main = choices(world, random)
    kind = random.choice(len(KINDS), world.events, p=SHARES)
    stars = np.where(main, random.integers(4, 6, world.events), random.integers(1, 5, world.events))
    bought = np.isin(kind, (1, 2))
    value = np.where(bought, prices(world)[item], np.where(kind == 3, stars, np.nan))
    at = np.sort(random.random(world.events)) * SPAN_S + START_S
    numbers = {"n": np.arange(world.events), "person": person, "item": item, "kind": kind, "value": value}
    for part in one(
        pl.DataFrame({**numbers, "occurred_at": at.round(3)})
    ):  # texts of a chunk at a time take less memory
        yield part.with_columns(pl.col("value").fill_nan(None), type=pl.Series(KINDS[part["kind"].to_numpy()])).select(
            "row",
            pl.format("e{}", "n").alias("event_id"),
            "type",
            pl.format("u{}", "person").alias("user_id"),
            pl.format("i{}", "item").alias("item_id"),
            "occurred_at",
            "value",
        )


def choices(world: World, random: np.random.Generator) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Who acts on what, (events,) each, and whether the item is of the person's favourite cluster."""
    n = world.events
    liked = random.integers(0, world.clusters, (world.people, len(LIKED)))
    person = np.floor(world.people * random.random(n) ** 1.5).astype(np.int64)
    which = random.choice(len(LIKED), n, p=LIKED)
    cluster = liked[person, which]
    first = world.first_of(cluster)
    item = first + np.floor((world.first_of(cluster + 1) - first) * random.random(n) ** SKEW).astype(np.int64)
    order = np.argsort(person, kind="stable")
    before = np.empty(n, np.int64)
    before[order[1:]] = order[:-1]
    follows = random.random(n) < FOLLOWED
    follows[order[:1]] = False
    follows &= person[before * follows] == person
    successor = random.permutation(world.items)
    chosen = np.where(follows, successor[item[before * follows]], item)
    return person, chosen, (which == 0) & ~follows
