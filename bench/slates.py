"""What it costs to arrange a page: every stage that can be turned on, over 200 candidates, each alone and all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from services.gateway.explore import Explore
from services.gateway.new_items import NewItems
from services.gateway.ruled import Ruled
from services.gateway.rules import Active, RuleBook
from services.gateway.settings import Settings
from services.gateway.slate import DUPLICATE
from services.gateway.varied import Varied, Wish
from winnow.catalogue import Catalogue, Rows
from winnow.directions import packed
from winnow.types import Candidates, Context, Item, Person, Predictions, UserState, strings

N, ITEMS, DIM = 200, 10_000, 128  # candidates, items of the catalogue, numbers of a vector
TURNS, WARM = 200, 20
AT = datetime(2026, 1, 1, tzinfo=UTC)
SOME = {"field": "brand", "op": "in", "values": ["b1", "b2", "b3"]}
RULES: list[dict[str, Any]] = [
    {"kind": "pin", "item_id": f"i{ITEMS - 1}", "place": 3},
    {"kind": "quota", "filter": SOME, "at_least": 2, "at_most": 5},
    {"kind": "quota", "filter": {"field": "price", "op": "lt", "number": 20}, "at_most": 6},
    {"kind": "bury", "filter": {"field": "brand", "op": "in", "values": ["b9"]}},
    {"kind": "boost", "filter": {"field": "brand", "op": "in", "values": ["b4"]}, "strength": 0.3},
]
STAGES: Mapping[str, Wish] = {
    "mmr": Wish(diversity=0.3),
    "dpp": Wish(diversity=0.3),
    "duplicates": Wish(duplicates=DUPLICATE),
    "caps": Wish(cap=2),
    "freshness": Wish(freshness=0.2),
}


class Page:
    """A made-up list of candidates, and everything that may arrange it."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.catalogue = Catalogue()
        self.catalogue.upsert(
            Item(
                f"i{n}",
                brand=f"b{n % 10}",
                price=float(n % 100),
                categories=(f"c{n % 6}",),
                created_at=AT - timedelta(days=n % 400),
            )
            for n in range(ITEMS)
        )
        self.catalogue.advance(ITEMS, complete=True)
        rows = rng.choice(ITEMS - 1, N, replace=False)
        names = strings([f"i{row}" for row in rows])
        spread = rng.choice([0.1, 0.6], (N, 1))  # some are the same thing twice
        near = rng.normal(size=(N // 10, DIM))[rng.integers(0, N // 10, N)] + spread * rng.normal(size=(N, DIM))
        self.candidates = Candidates(
            names,
            np.ones(N, np.uint32),
            np.zeros((N, 1), np.float32),
            ("tower",),
            vectors=packed(near.astype(np.float32)),
        )
        self.scores = rng.random(N + 1).astype(np.float32)
        file = folder / "rules.json"
        file.write_text(json.dumps({"rules": [{"name": f"r{n}", **rule} for n, rule in enumerate(RULES)]}))
        self.ruled = Ruled(self.catalogue, RuleBook(file))
        self.explore, self.new = Explore(0.1, 20, 600.0), NewItems(self.catalogue, 0.1, 14.0)
        self.by = {
            "mmr": Varied(self.catalogue, Settings(slate_diversity_by="mmr")),
            "dpp": Varied(self.catalogue, Settings(slate_diversity_by="dpp")),
        }

    def varied(self, wish: Wish, by: str = "mmr") -> Rows:
        heads = Predictions(np.zeros((N, 3), np.float32), self.scores[:N], "k")
        return self.by[by].order(np.argsort(-self.scores[:N]), self.candidates, heads, wish, AT)

    def alone(self, name: str, turn: int) -> Rows:
        return self.varied(STAGES[name], "dpp" if name == "dpp" else "mmr")

    def lifted(self, turn: int) -> Rows:
        return self.new.lifted(np.argsort(-self.scores[:N]), self.candidates.item_ids, AT)

    def ruled_order(self, order: Rows | None = None) -> tuple[Candidates, Rows, Mapping[int, int], Active]:
        rules = self.ruled.active("recommend", Context("home"), AT)
        candidates, fixed = self.ruled.pinned(self.candidates, rules, UserState(Person("u")))
        heads = Predictions(np.zeros((len(candidates), 3), np.float32), self.scores[: len(candidates)], "k")
        heads = self.ruled.boosted(candidates, heads, rules) or heads
        order = np.argsort(-heads.scores) if order is None else np.append(order, N)
        return candidates, self.ruled.order(order, candidates, rules, fixed), fixed, rules

    def everything(self, turn: int) -> Rows:
        order = self.varied(Wish(0.3, DUPLICATE, 2, 0.2))
        order = self.new.lifted(order, self.candidates.item_ids, AT)
        return self.drawn(*self.ruled_order(order), turn)

    def drawn(self, candidates: Candidates, order: Rows, fixed: Mapping[int, int], rules: Active, turn: int) -> Rows:
        alike = np.vstack([self.ruled.alike(candidates, rules), self.new.marks(candidates.item_ids, AT)])
        return self.explore.draw(order, alike, fixed.values(), turn)[0]


def slates_here(turns: int = TURNS) -> dict[str, float]:
    """`slate.200.STAGE_ms`: the median of CPU milliseconds, each stage alone, and `all_ms` of all but the DPP together."""
    with TemporaryDirectory() as folder:
        page = Page(Path(folder))
        ruled = page.ruled_order()
        work: dict[str, Callable[[int], object]] = {name: partial(page.alone, name) for name in STAGES}
        work |= {
            "new_items": page.lifted,
            "rules": lambda turn: page.ruled_order(),
            "explore": lambda turn: page.drawn(*ruled, turn),
            "all": page.everything,
        }
        return {f"slate.{N}.{name}_ms": median_ms(one, turns) for name, one in work.items()}


def median_ms(work: Callable[[int], object], turns: int) -> float:
    took = []
    for turn in range(WARM + turns):
        began = time.thread_time()
        work(turn)
        took.append(time.thread_time() - began)
    return 1_000 * float(np.median(took[WARM:]))
